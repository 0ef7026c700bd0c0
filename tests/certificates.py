"""Certificates made on the spot with openssl: an authority, servers, clients, and a list of the revoked."""

import subprocess
from pathlib import Path

_CONFIG = """
[ca]
default_ca = ours
[ours]
database = {folder}/index.txt
new_certs_dir = {folder}
serial = {folder}/serial
crlnumber = {folder}/crlnumber
certificate = {folder}/ca.pem
private_key = {folder}/ca.key
default_md = sha256
default_days = 2
default_crl_days = 2
unique_subject = no
policy = anything
copy_extensions = copy
[anything]
commonName = supplied
organizationalUnitName = optional
organizationName = optional
countryName = optional
[req]
distinguished_name = name
prompt = no
[name]
"""


class Authority:
    """A certificate authority in a folder; everything it makes is good for two days."""

    def __init__(self, folder: Path, name: str = "Autorité fictive") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        (folder / "index.txt").touch()
        (folder / "serial").write_text("1000")
        (folder / "crlnumber").write_text("1000")
        self._config = folder / "openssl.cnf"
        self._config.write_text(_CONFIG.format(folder=folder), encoding="utf-8")
        self._run(
            "req", "-x509", "-utf8", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
            "-keyout", str(folder / "ca.key"), "-out", str(folder / "ca.pem"), "-subj", f"/CN={name}",
            "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign",
        )  # fmt: skip
        self.publish_revocations()

    @property
    def certificate(self) -> Path:
        """The authority's own certificate."""
        return self.folder / "ca.pem"

    @property
    def revocations(self) -> Path:
        """The list of the revoked."""
        return self.folder / "crl.pem"

    def issue(self, name: str, subject: str, *, server: str = "") -> tuple[Path, Path]:
        """Return (certificate, key) for a subject such as ``/CN=x/OU=y``; ``server``: names it serves under."""
        key, request, certificate = (self.folder / f"{name}.{suffix}" for suffix in ("key", "csr", "pem"))
        extra = ["-addext", f"subjectAltName={server}"] if server else []
        self._run(
            "req", "-new", "-utf8", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-keyout", str(key), "-out", str(request), "-subj", subject, *extra,
        )  # fmt: skip
        self._run("ca", "-batch", "-notext", "-utf8", "-in", str(request), "-out", str(certificate))
        return certificate, key

    def revoke(self, certificate: Path) -> None:
        """Put a certificate on the list."""
        self._run("ca", "-revoke", str(certificate))
        self.publish_revocations()

    def publish_revocations(self) -> None:
        """Sign the list anew."""
        self._run("ca", "-gencrl", "-out", str(self.revocations))

    def _run(self, command: str, *arguments: str) -> None:
        line = ["openssl", command, "-config", str(self._config), *arguments]
        done = subprocess.run(line, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, done.stderr
