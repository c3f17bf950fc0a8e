"""The development certificate: for the names that were asked for, and with a key that only its owner reads."""

from __future__ import annotations

from pathlib import Path

from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store

from vantage6.gateway.certificates import make_certificates


def test_the_certificate_is_good_for_its_names(tmp_path: Path) -> None:
    made = make_certificates(tmp_path / "new", ["gateway.example", "127.0.0.1"])
    authority = x509.load_pem_x509_certificate(made.ca.read_bytes())
    certificate = x509.load_pem_x509_certificate(made.certificate.read_bytes())
    verifier = PolicyBuilder().store(Store([authority])).build_server_verifier(x509.DNSName("gateway.example"))
    assert verifier.verify(certificate, [])[0] == certificate
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]


def test_files_are_private_and_can_be_made_again(tmp_path: Path) -> None:
    first = make_certificates(tmp_path)
    first.key.chmod(0o644)
    old = first.key.read_bytes()
    again = make_certificates(tmp_path)
    assert again.key.stat().st_mode & 0o777 == 0o600
    assert again.key.read_bytes() != old
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ca.pem", "server.key", "server.pem"]
