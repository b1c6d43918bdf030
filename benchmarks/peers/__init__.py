"""Other ways to get a message from one Python process to another, each used as its own pages say.

`protocol` says what a peer offers, `all_peers` lists them. Versions are pinned in pyproject.toml,
extras `bench` and `bench-torch`; what is not installed is skipped, with the reason.
"""
