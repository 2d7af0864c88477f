//! Floor 1, pure: bytes to facts about HTTP/1.1 (RFC 9110, RFC 9112) and back. No policy.
