"""What others offer for the same work, each used as its own documentation says is fast."""
