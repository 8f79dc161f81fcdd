#!/bin/sh
# Installs the course from this folder on Linux or macOS, without a network:
#   sh install.sh [FOLDER]                      into FOLDER instead of bertlab-course in your home folder
#   PYTHON=/path/to/python3.12 sh install.sh    with this Python
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)

for python in "${PYTHON:-}" python3.14 python3.13 python3.12 python3.11 python3 python; do
  if [ -n "$python" ] && command -v "$python" >/dev/null 2>&1 && "$python" "$here/install.py" --fits >/dev/null 2>&1; then
    exec "$python" "$here/install.py" "$@"
  fi
done

{
  python3 "$here/install.py" --fits 2>&1 || true # its own words
  echo "install: found no Python that this bundle has packages for. README.txt names them: install one, or say where it is:"
  echo "  PYTHON=/path/to/python3 sh install.sh"
} >&2
exit 1
