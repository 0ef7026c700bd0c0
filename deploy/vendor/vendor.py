"""Developer tool: copy what the console ships of other people's work out of npm packages (never run by the service).

    cd deploy/vendor && npm ci --ignore-scripts && python vendor.py

``package-lock.json`` holds versions and checksums of the packages; the manifests written beside the copies hold name,
version, licence and SHA-256 of each file, and a test compares them with the files.
"""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parents[1]
SHIPPED: Final = ROOT / "sas_matcher/console/static/vendor"
FOR_TESTS: Final = ROOT / "tests/browser/vendor"

# package → (where to, its licence text, files)
WANTED: Final = {
    "htmx.org": (SHIPPED, "LICENSE", ("dist/htmx.min.js",)),
    "leaflet": (SHIPPED, "LICENSE", ("dist/leaflet.js", "dist/leaflet.css")),
    "uplot": (SHIPPED, "LICENSE", ("dist/uPlot.iife.min.js", "dist/uPlot.min.css")),
    "axe-core": (FOR_TESTS, "LICENSE", ("axe.min.js",)),
}


def main() -> None:
    """Copy the files and write the manifests."""
    manifests: dict[Path, list[dict[str, str]]] = {}
    for package, (folder, licence, files) in WANTED.items():
        source = HERE / "node_modules" / package
        about = json.loads((source / "package.json").read_text(encoding="utf-8"))
        folder.mkdir(parents=True, exist_ok=True)
        for name, file in [(Path(file).name, file) for file in files] + [(f"LICENSE-{package}", licence)]:
            shutil.copyfile(source / file, folder / name)
            entry = {
                "file": name,
                "package": package,
                "version": about["version"],
                "licence": about["license"],
                "sha256": hashlib.sha256((folder / name).read_bytes()).hexdigest(),
            }
            manifests.setdefault(folder, []).append(entry)
    for folder, entries in manifests.items():
        text = json.dumps(entries, indent=1, ensure_ascii=False)
        (folder / "MANIFEST.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
