"""The front door: what is public, and only that."""

import memberlist


def test_the_public_names() -> None:
    assert memberlist.__all__ == sorted(memberlist.__all__, key=lambda name: (name.islower(), name))
    assert set(memberlist.__all__) == {
        "Address", "Config", "ConfigError", "Conflict", "DecodeError", "Delegate", "Died", "Event", "Events",
        "JoinError", "Joined", "Keyring", "Lagged", "Left", "Member", "MemberlistError", "Node", "Reachable",
        "Refuted", "State", "Statistics", "Suspected", "Timeout", "Unreachable", "Updated", "UserMessage",
        "load_keys", "metallb_key", "open_member",
    }  # fmt: skip
    for name in memberlist.__all__:
        assert hasattr(memberlist, name)
