"""What brokers mean that hang up: errors of TLS and SASL as a line that names the setting to look at."""

import ssl

from aiokafka.errors import (
    AuthenticationFailedError,
    IllegalSaslStateError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)

from processor.kafka.tokens import TokenError

_ALERT = "ALERT"
_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST")
_OUR_CERTIFICATE = ("CERTIFICATE", "UNKNOWN_CA", "BAD_CERT", "HANDSHAKE_FAILURE")


def told(error: BaseException, protocol: str) -> str:
    """Say what is wrong, to be mended by a person; empty for what may pass, such as a broker that is away.

    Args:
        error: what a connection ended with; the reason may be its cause.
        protocol: the one that was spoken.
    """
    for each in _causes(error):
        match each:
            case ssl.SSLCertVerificationError():
                words = each.verify_message.rstrip(".")
                mend = "ssl_check_hostname, or the name" if each.verify_code in _OF_THE_NAME else "ssl_ca_file"
                return f"the broker's certificate is not believed: {words} ({mend})"
            case ssl.SSLError():
                reason = each.reason or ""
                if _ALERT in reason and any(word in reason for word in _OUR_CERTIFICATE):
                    why = "ssl_cert_file: none, expired, or of an authority that it does not know"
                    return f"the broker refuses our certificate: {_plain(reason)} ({why})"
                if any(word in reason for word in _NO_TLS):
                    return f"no TLS is spoken there: found security_protocol {protocol}, expected one without"
                return f"TLS fails: {_plain(reason) or each}"
            case IllegalSaslStateError():
                return f"nobody logs in there: found security_protocol {protocol}, expected one without SASL"
            case UnsupportedSaslMechanismError():
                return f"the broker refuses the way to log in: {_said(each)} (sasl_mechanism)"
            case AuthenticationFailedError() | SaslAuthenticationFailed():
                return f"the broker refuses the login: {_said(each)} (sasl_username, sasl_password)"
            case TokenError():
                return _said(each)
    return ""


_OF_THE_NAME = (62, 64)  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH


def _causes(error: BaseException) -> list[BaseException]:
    chain: list[BaseException] = []
    at: BaseException | None = error
    while at is not None and at not in chain:
        chain.append(at)
        at = at.__cause__ or at.__context__
    return chain


def _said(error: BaseException) -> str:
    return " ".join(str(error.args[0] if error.args else error).split())


def _plain(reason: str) -> str:
    return reason.lower().replace("_", " ")
