"""Consent: two registers for each contact, `marketing` and `all`, each the newest by its own time (S4).

Consent outlives windows, is applied however late it comes, and is never forgotten.
"""

import msgspec

from processor.core.events import Consent


class Register(msgspec.Struct, gc=False, frozen=True):
    """The newest word of the contact: granted or revoked, and when (event time, ms)."""

    granted: bool
    at: int


class Consents(msgspec.Struct, gc=False):
    """Both registers of one contact; None is a register in which nothing was ever said."""

    marketing: Register | None = None
    all: Register | None = None

    def apply(self, consent: Consent) -> bool:
        """Take a grant or a revocation; at equal times the revocation stands. False where it changes nothing."""
        known = self.marketing if consent.scope == "marketing" else self.all
        if known is not None:
            if consent.at_ms < known.at:
                return False
            if consent.at_ms == known.at and (consent.granted or not known.granted):
                return False
        register = Register(consent.granted, consent.at_ms)
        if consent.scope == "marketing":
            self.marketing = register
        else:
            self.all = register
        return True
