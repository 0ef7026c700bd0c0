#!/bin/sh
# The launcher: makes the environment from the hashed locks when needed, then runs a command. POSIX sh.
# Nothing is installed outside .venv (the project) and .boot (uv, when the machine has none).
set -eu
unset PYTHONHOME UV_SYSTEM_PYTHON PIP_USER PIP_TARGET PIP_PREFIX 2>/dev/null || :

self=$0
while [ -L "$self" ]; do
    link=$(readlink "$self")
    case $link in
        /*) self=$link ;;
        *) self=$(dirname -- "$self")/$link ;;
    esac
done
root=$(CDPATH='' cd -P -- "$(dirname -- "$self")" && pwd)
venv=$root/.venv
boot=$root/.boot
py=$venv/bin/python
guard=$boot/lock

usage() {
    cat <<'END'
sas_matcher : appariement en direct des places de soins non programmés (SAS)

  ./sas demo            démonstration complète : serveurs embarqués, données fictives, console
  ./sas serve           le service, sur vos serveurs ou sur les serveurs embarqués
  ./sas test [options]  les tests (options de pytest)
  ./sas check           format, règles de style, types, dépendances entre modules
  ./sas race            les campagnes de concurrence
  ./sas bench           les mesures : vitesse, comparée à un plancher et à d'autres services
  ./sas load            une crise jouée et jugée (./sas load --scenario S3 --minutes 10)
  ./sas cluster         le service à l'échelle, sur cette machine
  ./sas help            cette aide

Toute autre commande est transmise à sas-matcher (./sas --version, ./sas replay …).
Réglages : SAS_PYTHON (Python à employer), SAS_DATABASE_URL et SAS_REDIS_URL (serveurs existants).
END
}

say() { printf '%s\n' "$*" >&2; }
die() {
    say "sas : $*"
    exit 1
}

# Prints the interpreter itself, not a link that the next system upgrade points elsewhere.
interpreter() {
    "$1" -c 'import os, sys
if sys.version_info < (3, 11): sys.exit(1)
print(os.path.realpath(sys.executable))' 2>/dev/null
}

find_python() {
    seen=''
    for candidate in ${SAS_PYTHON:+"$SAS_PYTHON"} python3 python3.14 python3.13 python3.12 python3.11 python; do
        if command -v "$candidate" >/dev/null 2>&1; then
            python=$(interpreter "$candidate") && return 0
            seen="$seen ${candidate} ($("$candidate" -V 2>&1 | head -n 1))"
        fi
        [ -z "${SAS_PYTHON:-}" ] || die "SAS_PYTHON=$SAS_PYTHON n'est pas un Python 3.11 ou plus récent."
    done
    die "Python 3.11 ou plus récent est nécessaire. Trouvé :${seen:- aucun}.
Debian 12, Ubuntu 24.04 ou plus récents : apt install python3 python3-venv
Un Python installé ailleurs se donne par SAS_PYTHON=/chemin/de/python3."
}

# One hash for all locks: a change of either makes both stamps stale.
state() {
    if command -v sha256sum >/dev/null 2>&1; then
        hash='sha256sum'
    elif command -v shasum >/dev/null 2>&1; then
        hash='shasum -a 256'
    else
        hash='cksum'
    fi
    cat "$root/requirements.lock" "$root/requirements-dev.lock" "$root/sas" | $hash
}

ready() { [ -x "$py" ] && [ -x "$venv/bin/sas-matcher" ] && [ "$(cat "$venv/.sas-$1" 2>/dev/null)" = "$wanted" ]; }

alive() { kill -0 "$1" 2>/dev/null || [ -d "/proc/$1" ] || ps -p "$1" >/dev/null 2>&1; }

# A guard is stale when its process is gone, or when it never got a number within a minute.
stale() {
    holder=$(cat "$guard/pid" 2>/dev/null) || holder=''
    if [ -n "$holder" ]; then
        ! alive "$holder"
    else
        [ -n "$(find "$guard" -prune -mmin +1 2>/dev/null)" ]
    fi
}

# Only one process at a time breaks a stale guard, and it looks again: the guard could be a new one by then.
break_guard() {
    if mkdir "$guard.break" 2>/dev/null; then
        ! stale || rm -rf "$guard"
        rmdir "$guard.break"
    elif [ -n "$(find "$guard.break" -prune -mmin +1 2>/dev/null)" ]; then
        rmdir "$guard.break" 2>/dev/null || :
        return 1
    else
        return 1
    fi
}

lock() {
    mkdir -p "$boot" 2>/dev/null || die "impossible d'écrire dans $root : l'environnement ne peut pas y être installé."
    waited=0
    until mkdir "$guard" 2>/dev/null; do
        [ -d "$guard" ] || [ -w "$boot" ] || die "impossible d'écrire dans $boot."
        if stale && break_guard; then continue; fi
        [ "$waited" -ne 1 ] || say "Une autre installation est en cours (processus ${holder:-inconnu}), attente…"
        [ "$waited" -lt 900 ] || die "l'autre installation ne se termine pas. Si elle est morte : rm -r '$guard'"
        sleep 1
        waited=$((waited + 1))
    done
    trap unlock EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    echo $$ >"$guard/pid"
}

unlock() {
    rm -rf "$guard"
    trap - EXIT HUP INT TERM
}

# Finds a pip that can install into another environment: that of .boot, or the system's.
find_pip() {
    if [ -x "$boot/bin/python" ] && "$boot/bin/python" -m pip --version >/dev/null 2>&1; then
        pip_python=$boot/bin/python
    elif "$python" -c 'import ensurepip, venv' 2>/dev/null && "$python" -m venv --clear "$boot/new" >/dev/null 2>&1; then
        # beside, then moved part by part: `venv --clear` on .boot itself would clear the guard
        for part in bin lib lib64 include pyvenv.cfg; do
            rm -rf "${boot:?}/$part"
            [ ! -e "$boot/new/$part" ] || mv "$boot/new/$part" "$boot/$part"
        done
        rm -rf "$boot/new"
        pip_python=$boot/bin/python
    elif "$python" -m pip --version >/dev/null 2>&1; then
        pip_python=$python
    else
        rm -rf "$boot/new"
        die "ce Python ($python) n'a ni pip ni ensurepip. Sur Debian et Ubuntu : apt install python3-venv"
    fi
}

pip_into() {
    target=$1
    shift
    "$pip_python" -m pip --python "$target" --disable-pip-version-check --quiet install --require-hashes "$@"
}

find_uv() {
    if command -v uv >/dev/null 2>&1 && uv --version >/dev/null 2>&1; then
        uv=uv
    elif [ -x "$boot/bin/uv" ] && "$boot/bin/uv" --version >/dev/null 2>&1; then
        uv=$boot/bin/uv
    else
        find_pip
        [ -x "$boot/bin/python" ] || "$python" -m venv --without-pip "$boot"
        uv=$boot/bin/uv
        pip_into "$boot/bin/python" -r "$root/requirements-boot.lock" || uv=''
    fi
}

install() {
    find_python
    [ -x "$py" ] && "$py" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || {
        rm -rf "$venv"
        "$python" -m venv --without-pip "$venv" ||
            die "ce Python ($python) ne sait pas faire d'environnement. Sur Debian et Ubuntu : apt install python3-venv"
    }
    find_uv
    installed=''
    if [ -n "$uv" ]; then
        (cd "$root" && "$uv" pip install --quiet --python "$py" --require-hashes -r "$1") && installed=yes ||
            say "uv n'a pas pu installer ; essai avec pip (qui a ses propres réglages de réseau)…"
    fi
    if [ -z "$installed" ]; then
        find_pip
        pip_into "$py" -r "$root/$1" ||
            die "l'installation a échoué (voir ci-dessus ; réseau, miroir, certificat ?). Relancez la même commande."
    fi
}

# The project itself is a line in a .pth file and a script: nothing to build, nothing to fetch, and both are
# relative, so that a checkout may be moved.
link_project() {
    for packages in "$venv"/lib/python3*/site-packages; do
        printf '../../../..\n' >"$packages/sas_matcher.pth"
    done
    cat >"$venv/bin/sas-matcher.new" <<'END'
#!/bin/sh
'''exec' "$(dirname -- "$(realpath -- "$0")")/python" "$0" "$@"
' '''
import sys

from sas_matcher.cli import main

sys.exit(main())
END
    chmod 755 "$venv/bin/sas-matcher.new"
    mv "$venv/bin/sas-matcher.new" "$venv/bin/sas-matcher"
}

# prepare base|dev: leaves at once when the stamp matches.
prepare() {
    wanted=$(state)
    ! ready "$1" || return 0
    lock
    if ! ready "$1"; then
        say "Installation de l'environnement (une minute au plus, la première fois)…"
        rm -f "$venv/.sas-base" "$venv/.sas-dev"
        case $1 in
            base) install requirements.lock ;;
            dev) install requirements-dev.lock ;;
        esac
        link_project
        [ "$1" = base ] || printf '%s\n' "$wanted" >"$venv/.sas-dev"
        printf '%s\n' "$wanted" >"$venv/.sas-base" # the development lock contains the other
    fi
    unlock
}

check() {
    failed=''
    "$py" -m ruff format --check . || failed="$failed format"
    "$py" -m ruff check . || failed="$failed style"
    "$py" -m mypy || failed="$failed types"
    "$py" -c 'import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())' ||
        failed="$failed imports"
    [ -z "$failed" ] || die "échec :$failed"
    say "Tout est en ordre."
}

command=${1:-}
[ "$#" -eq 0 ] || shift
case $command in
    '')
        prepare base
        usage
        ;;
    help | aide | -h | --help) usage ;;
    demo | serve)
        prepare base
        cd "$root"
        exec "$venv/bin/sas-matcher" "$command" "$@"
        ;;
    test)
        prepare dev
        cd "$root"
        # four at a time: tests mostly wait for servers; a file stays together, with the service that it shares
        # (the order of files is ours: see tests/conftest.py)
        # each module is compiled once for all: for the workers, and for each service that a test starts
        unset PYTHONDONTWRITEBYTECODE
        export PYTHONPYCACHEPREFIX="$venv/compiled"
        exec "$py" -m pytest -n 4 --dist loadfile --no-loadscope-reorder "$@"
        ;;
    race | bench)
        prepare dev
        cd "$root"
        exec "$py" -m "tests.$command" "$@"
        ;;
    load)
        prepare dev
        cd "$root"
        exec "$py" -m loadtests "$@"
        ;;
    check)
        prepare dev
        cd "$root"
        check
        ;;
    *)
        prepare base
        exec "$venv/bin/sas-matcher" "$command" "$@"
        ;;
esac
