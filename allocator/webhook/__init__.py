"""MetalLB's webhooks, for who wants bad configuration refused at admission: `--webhook-mode=enabled`.

    wire          what the API server asks and is answered      admission    may it be?  pure
    conversion    BGPPeer v1beta1 <-> v1beta2, pure             server       HTTPS, POST, bounded
    certificates  a program: makes and renews                   keeper       the Secret, and who must trust it
    service       all of it together

Without them the CRDs' own rules and ConfigurationState tell of the same faults.
"""
