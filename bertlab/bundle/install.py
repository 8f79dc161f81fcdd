"""Installs the course from the folder this file lies in; nothing is fetched. install.sh and install.ps1 start it.

    python install.py [FOLDER]    # FOLDER: where the course goes, bertlab-course in your home folder unless named
    python install.py --fits      # only says whether this Python is one the bundle has packages for

It must still run, and say what is wrong, on a Python that is too old for the course: keep its syntax at Python 3.6.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

BUNDLE = Path(__file__).resolve().parent
SYSTEMS = {"Linux": "linux", "Darwin": "macos", "Windows": "windows"}
PROCESSORS = {"amd64": "x86_64", "aarch64": "arm64"}


def main(arguments):
    try:
        check_fit(json.loads((BUNDLE / "bundle.json").read_text(encoding="utf-8")))
        if arguments != ["--fits"]:
            install(Path(arguments[0] if arguments else Path.home() / "bertlab-course").expanduser().absolute())
    except (OSError, RuntimeError) as error:
        print("install: {}".format(error), file=sys.stderr)
        return 1
    return 0


def system_name(system, machine):
    """A system and its processor as bundles write them.

    >>> system_name("Linux", "aarch64"), system_name("Darwin", "arm64"), system_name("Windows", "AMD64")
    ('linux-arm64', 'macos-arm64', 'windows-x86_64')
    """
    machine = machine.lower()
    return "{}-{}".format(SYSTEMS.get(system, system.lower()), PROCESSORS.get(machine, machine))


def check_fit(bundle):
    """RuntimeError unless the bundle has packages for this system and this Python."""
    here, python = system_name(platform.system(), platform.machine()), ".".join(map(str, sys.version_info[:2]))
    if here not in bundle["platforms"]:
        raise RuntimeError("This is {}, and the bundle is for {}.".format(here, ", ".join(bundle["platforms"])))
    if python not in bundle["pythons"] or list(sys.version_info[:3]) < bundle["python_needed"]:
        needed = ".".join(map(str, bundle["python_needed"]))
        wanted = " or ".join(bundle["pythons"])
        raise RuntimeError("{} is Python {}, and the bundle is for {} ({} or newer).".format(sys.executable, platform.python_version(), wanted, needed))


def install(course):
    """The course in `course`, its packages in `course`/.venv; then the doctor looks at both."""
    copy_course(course)
    print("Setting up {} (a few minutes, about 2.5 GB)".format(course / ".venv"), flush=True)
    environment = dict(os.environ, PIP_CONFIG_FILE=os.devnull, PIP_DISABLE_PIP_VERSION_CHECK="1")
    run([sys.executable, "-m", "venv", ".venv"], course, environment, "On Debian and Ubuntu install python3-venv first.")
    programs = course / ".venv" / ("Scripts" if os.name == "nt" else "bin")
    python = programs / ("python.exe" if os.name == "nt" else "python")
    pip = [str(python), "-m", "pip", "--isolated", "install", "--quiet", "--no-index", "--find-links", str(BUNDLE / "wheelhouse")]
    advice = "If a file is broken, copy the bundle again; README.txt says how to check a copy. Then start this again: it goes on."
    run(pip + ["-r", "requirements.txt", "-c", "requirements.lock"], course, environment, advice)
    run([str(python), "-m", "bertlab.cli", "doctor"], course, environment, "The lines with [FAIL] say what to do.")
    print("\nTo open the course, now and later:\n" + how_to_open(course), flush=True)


def copy_course(course):
    """The bundle's files in `course`; a course that is there already is kept, with a learner's work in it."""
    if (course / "bertlab" / "cli.py").is_file() and (course / "requirements.txt").is_file():
        print("Keeping the files in {}".format(course), flush=True)
        return
    if course.is_dir() and not any(course.iterdir()):
        course.rmdir()
    if course.exists():
        raise RuntimeError("{} exists and is not the course: name another folder.".format(course))
    partial = course.with_name(course.name + ".partial")
    if partial.exists():
        shutil.rmtree(str(partial))
    print("Copying the course to {}".format(course), flush=True)
    shutil.copytree(str(BUNDLE / "bertlab"), str(partial))
    shutil.copytree(str(BUNDLE / "bertlab" / "notebooks"), str(partial / "notebooks" / ".originals"))  # for bertlab reset
    partial.rename(course)


def run(command, course, environment, advice):
    if subprocess.call(command, cwd=str(course), env=environment):
        raise RuntimeError("`{}` failed: see above. {}".format(" ".join(command[1:4]), advice))


def how_to_open(course, windows=os.name == "nt"):
    """What to type.

    >>> print(how_to_open("/home/me/bertlab-course", windows=False))
      cd '/home/me/bertlab-course' && . .venv/bin/activate && bertlab lab
    """
    line = "cd '{}'; .venv\\Scripts\\bertlab lab" if windows else "cd '{}' && . .venv/bin/activate && bertlab lab"
    return "  " + line.format(course)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
