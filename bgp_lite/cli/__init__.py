"""`python -m bgp_lite`: one file a verb."""
