"""What others offer for the same work, each used as its own pages say is fast.

`protocol` says what a peer for messages offers, `all_peers` lists them; `task` and `crews` of the
package above do so for those that run jobs. Versions are pinned in pyproject.toml, extras `bench`,
`bench-torch` and `bench-farm`; what is not installed is skipped, with the reason.
"""
