"""The log: every attempt's intent before it is sent, and its outcome before the answer is handed on.

The form on disk is in docs/audit-format.md, the reasons for it in docs/adr/0004-form-of-the-log.md.
"""

from veyra.audit.entry import BodyPart
from veyra.audit.log import AuditLog
from veyra.audit.read import AttemptRow, Entry, StoredPart, find, read_attempts, read_entries
from veyra.audit.verify import Problem, Report, verify

__all__ = [
    "AuditLog",
    "BodyPart",
    "Entry",
    "StoredPart",
    "AttemptRow",
    "Report",
    "Problem",
    "find",
    "read_attempts",
    "read_entries",
    "verify",
]
