"""Which buckets give sight, in the statement that reads them.

A bucket gives sight while it is open and its end has not come (R11), and where it asks for codes in a
registered session only (A57). Here alone that is said; each text is of the bucket `b`.
"""


def is_active(now: str) -> str:
    """Whether it may give sight at an instant, which is a parameter of the statement."""
    return f"(b.open and b.ends_at > {now})"


def gives_sight(now: str, session: str) -> str:
    """Whether it gives sight in a session; instant and session are parameters of the statement."""
    return f"""({is_active(now)} and (not b.two_factor or exists (
        select from bucket_sessions s where s.bucket_id = b.bucket_id and s.session = {session}
    )))"""
