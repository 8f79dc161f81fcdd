"""`bertlab pack`: everything the course needs in one folder, for a room without a network.

uv works out what requirements.txt needs on each platform, with that platform's own markers; pip downloads exactly
that. Both look where pip's configuration says. What lies in bertlab/bundle/ installs it on the learners' machines.
"""

from __future__ import annotations

import ast
import dataclasses
import errno
import functools
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from .bundle.install import system_name

CHECKOUT = Path(__file__).resolve().parent.parent
INSTALLERS = Path(__file__).resolve().parent / "bundle"
OURSELVES = "bertlab-course"
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
PYTHON_NEEDED = (3, 11, 5)
SOURCE_ONLY = ("seqeval",)  # the index has no wheel of it; it is pure Python, so one wheel made here serves every platform
CUDA = ("nvidia-", "cuda-")
FIRST_LINE = "bertlab: the course and all its packages, for computers without a network"
BATCH = 10  # packages a call of pip downloads; an interruption loses no more than these

# bertlab's name for a platform, and uv's
PLATFORMS = {
    "linux-x86_64": "x86_64-manylinux_2_28",
    "linux-arm64": "aarch64-manylinux_2_28",
    "macos-arm64": "aarch64-apple-darwin",
    "windows-x86_64": "x86_64-pc-windows-msvc",
}
MACOS = (14, 0)  # the oldest that torch has wheels for


class PackError(ValueError):
    """The bundle cannot be made; the message says why and what to do."""


# ---------------------------------------------------------------- for whom


@dataclasses.dataclass(frozen=True)
class Target:
    """One platform with one Python.

    >>> str(Target("windows-x86_64", "3.12")), Target("linux-x86_64", "3.11").full_python
    ('windows-x86_64 with Python 3.12', '3.11.5')
    """

    platform: str
    python: str

    def __str__(self) -> str:
        return f"{self.platform} with Python {self.python}"

    @property
    def full_python(self) -> str:
        """The oldest release that the course runs on."""
        needed = ".".join(map(str, PYTHON_NEEDED))
        return needed if needed.startswith(f"{self.python}.") else f"{self.python}.0"

    @property
    def abi(self) -> str:
        return "cp" + self.python.replace(".", "")

    def wheel_platforms(self) -> list[str]:
        """The platform tags a wheel may have, the best first.

        >>> Target("linux-arm64", "3.12").wheel_platforms()[:2], Target("windows-x86_64", "3.12").wheel_platforms()
        (['manylinux_2_28_aarch64', 'manylinux_2_27_aarch64'], ['win_amd64'])
        """
        system, _, processor = self.platform.partition("-")
        if system == "windows":
            return ["win_amd64"]
        if system == "macos":
            from packaging.tags import mac_platforms

            return list(mac_platforms(MACOS, processor))
        processor = "aarch64" if processor == "arm64" else processor
        named = [f"manylinux{year}_{processor}" for year in ("2014", "2010", "1")]
        return [f"manylinux_2_{minor}_{processor}" for minor in range(28, 4, -1)] + named + [f"linux_{processor}"]

    @functools.cache
    def tags(self) -> set:
        """Every tag of a wheel that this target can install."""
        from packaging.tags import compatible_tags, cpython_tags

        version, platforms = tuple(map(int, self.python.split("."))), self.wheel_platforms()
        return {*cpython_tags(version, [self.abi], platforms), *compatible_tags(version, self.abi, platforms)}


def this_machine() -> Target:
    """The target that this machine and this Python are."""
    return Target(system_name(platform.system(), platform.machine()), ".".join(map(str, sys.version_info[:2])))


def targets(platforms: Sequence[str] = (), pythons: Sequence[str] = ()) -> list[Target]:
    """Each platform with each Python; what is not named is this machine's."""
    here = this_machine()
    for name in platforms or [here.platform]:
        if name not in PLATFORMS:
            raise PackError(f"There is no torch for {name}: --platform takes {', '.join(PLATFORMS)}.")
    for version in pythons or [here.python]:
        if version not in PYTHONS:
            raise PackError(f"There is no torch for Python {version}: --python takes {', '.join(PYTHONS)}.")
    chosen = [Target(name, version) for name in platforms or [here.platform] for version in pythons or [here.python]]
    return list(dict.fromkeys(chosen))


# ---------------------------------------------------------------- which packages


def find_uv() -> list[str]:
    """The command that starts uv: this environment's, or the one on the path."""
    if importlib.util.find_spec("uv"):
        return [sys.executable, "-m", "uv"]
    if found := shutil.which("uv"):
        return [found]
    raise PackError("uv works out what each platform needs, and it is not installed: pip install uv, then run the same command again.")


def pip_settings(listed: str) -> dict[str, str]:
    """pip's settings for a download, from what `pip config list` printed.

    >>> pip_settings("global.find-links='/a /b'\\ninstall.no-deps='1'\\n:env:.no-index='1'\\n")
    {'find-links': '/a /b', 'no-index': '1'}
    """
    found: dict[str, dict[str, str]] = {"global": {}, "download": {}, ":env:": {}}
    for line in listed.splitlines():
        key, _, value = line.partition("=")
        section, _, name = key.rpartition(".")
        if section in found:
            found[section][name.replace("_", "-")] = ast.literal_eval(value)
    return {**found["global"], **found["download"], **found[":env:"]}  # pip's order: the later one wins


def uv_options(settings: dict[str, str]) -> tuple[list[str], dict[str, str]]:
    """What to tell uv, as options and as environment, so that it looks where pip looks.

    >>> uv_options({"find-links": "https://a https://b", "cert": "/c.pem"})
    (['--find-links', 'https://a', '--find-links', 'https://b'], {'SSL_CERT_FILE': '/c.pem'})
    """
    options = []
    for name in ("find-links", "index-url", "extra-index-url", "trusted-host"):
        uv_name = "allow-insecure-host" if name == "trusted-host" else name
        for value in settings.get(name, "").split():
            folder = name == "find-links" and "://" not in value
            options += [f"--{uv_name}", str(Path(value).absolute()) if folder else value]
    if settings.get("no-index", "").lower() in ("1", "true", "yes", "on"):
        options.append("--no-index")
    environment = {variable: settings[name] for name, variable in (("cert", "SSL_CERT_FILE"), ("proxy", "ALL_PROXY")) if settings.get(name)}
    return options, environment


def resolve(target: Target, uv: Sequence[str], root: Path = CHECKOUT, wheelhouse: Path | None = None) -> list[str]:
    """What requirements.txt needs there, as "name==version"; PackError if that is torch with CUDA.

    With a wheelhouse, nothing else is looked at.
    """
    only = {"no-index": "1", "find-links": wheelhouse.as_uri()} if wheelhouse else None
    options, environment = uv_options(only or pip_settings(_pip("config", "list")))
    command = [*uv, "pip", "compile", "requirements.txt", "--constraints", "requirements.lock", "--python", sys.executable]
    command += ["--python-platform", PLATFORMS[target.platform], "--python-version", target.full_python]
    # pip takes the best version of all indexes together; --no-config: pip's configuration is the one that counts
    command += ["--index-strategy", "unsafe-best-match", "--no-config", "--no-python-downloads", *options]
    command += ["--no-emit-package", OURSELVES, "--no-annotate", "--no-header", "--quiet"]
    # the oldest macOS; uv's own default is one that torch has no wheels for
    environment |= {"MACOSX_DEPLOYMENT_TARGET": ".".join(map(str, MACOS))}
    out = _run(command, f"uv could not work out what {target} needs", cwd=root, env={**os.environ, **environment})
    pins = [line.split(";")[0].strip() for line in out.splitlines() if "==" in line and not line.lstrip().startswith(("#", "-"))]
    if not pins:
        raise PackError(f"uv named no packages for {target}: is there anything in {root / 'requirements.txt'}?")
    refuse_cuda(target, pins)
    return pins


def refuse_cuda(target: Target, pins: Iterable[str]) -> None:
    """PackError if the packages bring CUDA along.

    >>> refuse_cuda(Target("linux-x86_64", "3.12"), ["torch==2.13.0+cpu", "tqdm==4.70.1"])
    """
    cuda = [pin for pin in pins if pin.startswith(CUDA)]
    if cuda:
        raise PackError(
            f"For {target} the index has torch with CUDA alone: {len(cuda)} packages like {cuda[-1]}, about 3 GB that the course does not need. "
            "Nothing was downloaded. Set PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu (README, CPU-only torch on Linux) "
            "and run the same command again."
        )


# ---------------------------------------------------------------- the wheels


def wheel_for(pin: str, target: Target, wheelhouse: Path) -> Path | None:
    """The wheelhouse's file that installs "name==version" there, or None."""
    from packaging.utils import canonicalize_name, parse_wheel_filename
    from packaging.version import Version

    name, _, version = pin.partition("==")
    name = canonicalize_name(name.split("[")[0])
    for file in sorted(wheelhouse.glob("*.whl")):
        if canonicalize_name(file.name.partition("-")[0]) == name:
            _, its_version, _, its_tags = parse_wheel_filename(file.name)
            if its_version == Version(version) and its_tags & target.tags():
                return file
    return None


def collect(pins: dict[Target, list[str]], wheelhouse: Path) -> dict[Target, list[Path]]:
    """Put a wheel for every pin in the wheelhouse; one that is there is not fetched again, one that nobody needs goes."""
    wheelhouse.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(_partial(wheelhouse), ignore_errors=True)  # an interruption's
    wheels = {}
    for target, wanted in pins.items():
        missing = [pin for pin in wanted if not wheel_for(pin, target, wheelhouse)]
        print(f"{target}: {len(wanted)} packages, {len(missing)} to fetch", flush=True)
        for batch in batches(missing, BATCH):
            fetch(batch, target, wheelhouse)
            print(f"  {', '.join(batch)}", flush=True)
        wheels[target] = [_must_have(pin, target, wheelhouse) for pin in wanted]
    needed = {file for files in wheels.values() for file in files}
    for file in set(wheelhouse.glob("*.whl")) - needed:
        print(f"Removing {file.name}: this bundle does not need it")
        file.unlink()
    return wheels


def batches(pins: Sequence[str], size: int) -> Iterator[list[str]]:
    """Groups for one call of pip; what comes as source is by itself.

    >>> list(batches(["a==1", "seqeval==1.2.2", "b==1", "c==1"], 2))
    [['seqeval==1.2.2'], ['a==1', 'b==1'], ['c==1']]
    """
    source = [pin for pin in pins if pin.partition("==")[0] in SOURCE_ONLY]
    yield from ([pin] for pin in source)
    rest = [pin for pin in pins if pin not in source]
    yield from (rest[first : first + size] for first in range(0, len(rest), size))


def fetch(pins: Sequence[str], target: Target, wheelhouse: Path) -> None:
    """Download the target's wheels, or build the one that comes as source; a file gets its name when it is whole."""
    partial = _partial(wheelhouse)
    partial.mkdir()
    if pins[0].partition("==")[0] in SOURCE_ONLY:
        arguments = ["wheel", "--no-build-isolation", "--use-pep517", "--wheel-dir", partial]
        failed = f"pip could not build a wheel of {pins[0]} (it needs setuptools and setuptools-scm, which requirements.txt installs)"
    else:
        platforms = target.wheel_platforms()
        if target.platform.startswith("macos"):
            platforms = platforms[:1]  # pip adds the older ones itself
        arguments = ["download", "--only-binary=:all:", "--python-version", target.full_python, "--implementation", "cp", "--abi", target.abi]
        arguments += [part for name in platforms for part in ("--platform", name)] + ["--dest", partial]
        failed = f"pip could not download the wheels for {target}"
    _pip(*arguments, "--no-deps", "--quiet", *pins, failed=failed)
    for file in partial.glob("*.whl"):
        os.replace(file, wheelhouse / file.name)
    partial.rmdir()


def check_complete(pins: dict[Target, list[str]], wheelhouse: Path, uv: Sequence[str], root: Path) -> None:
    """PackError unless the wheelhouse alone leads to the same packages, on every target."""
    for target, wanted in pins.items():
        if other := set(wanted) ^ set(resolve(target, uv, root, wheelhouse)):
            raise PackError(f"The bundle alone leads to other packages for {target} than the index: {', '.join(sorted(other))}.")


def _must_have(pin: str, target: Target, wheelhouse: Path) -> Path:
    file = wheel_for(pin, target, wheelhouse)
    if file is None:
        raise PackError(f"pip brought no wheel of {pin} for {target}: the course cannot be installed there without a compiler.")
    return file


# ---------------------------------------------------------------- the repository


def tracked_files(root: Path = CHECKOUT) -> list[str]:
    """The files that git knows; what you changed in them is packed as it is."""
    advice = f"{root} is no clone of the repository, so nobody knows which files belong in the bundle: clone it (README, Two commands) and pack there."
    if not (root / ".git").exists():
        raise PackError(advice)
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, encoding="utf-8")
    except FileNotFoundError:
        raise PackError("git is not installed, and only git knows which files belong in the bundle: install it and run the same command again.") from None
    if listed.returncode:
        raise PackError(f"{advice} (git: {listed.stderr.strip()})")
    names = [name for name in listed.stdout.split("\0") if name]
    if missing := [name for name in names if not (root / name).is_file()]:
        raise PackError(f"git knows {missing[0]}, but it is not in {root} ({len(missing)} such files): `git restore .` brings them back.")
    return names


def changed_files(root: Path = CHECKOUT) -> list[str]:
    """Tracked files that differ from the last commit."""
    done = subprocess.run(["git", "diff", "--name-only", "-z", "HEAD"], cwd=root, capture_output=True, text=True, encoding="utf-8")
    return [name for name in done.stdout.split("\0") if name]


def copy_repository(root: Path, target: Path) -> int:
    """The tracked files in `target`, all or nothing; returns their size in bytes."""
    names, partial = tracked_files(root), _partial(target)
    for folder in (partial, target):
        if folder.exists():
            shutil.rmtree(folder)
    for name in names:
        (partial / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / name, partial / name)
    partial.rename(target)
    return sum((target / name).stat().st_size for name in names)


# ---------------------------------------------------------------- the bundle


def pack(folder: Path, platforms: Sequence[str] = (), pythons: Sequence[str] = (), proof: bool = True, root: Path = CHECKOUT) -> None:
    """Make the bundle, or finish one that was interrupted."""
    folder = folder.absolute()
    try:
        _pack(folder, targets(platforms, pythons), proof, root)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise PackError(no_space(folder)) from None
        raise


def _pack(folder: Path, wanted: Sequence[Target], proof: bool, root: Path) -> None:
    uv = find_uv()
    check_folder(folder)
    tracked_files(root)
    if changed := changed_files(root):
        print(f"Note: {len(changed)} files differ from the last commit and are packed as they are: {', '.join(changed[:5])}{' ...' * (len(changed) > 5)}")
    pins = {}
    for target in wanted:
        print(f"What does {target} need?", flush=True)
        pins[target] = resolve(target, uv, root)
    claim(folder)
    wheels = collect(pins, folder / "wheelhouse")
    check_complete(pins, folder / "wheelhouse", uv, root)
    course = copy_repository(root, folder / "bertlab")
    write_installers(folder, wanted)
    proved = this_machine() if proof and this_machine() in wanted else None
    if proved:
        prove(folder)
    write(folder / "README.txt", readme(wheels, course, proved, _commit(root)))
    write(folder / "SHA256SUMS", "".join(manifest(folder)))
    total = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    print(f"\n{folder}: {total / 1e6:,.0f} MB. Pass it round; README.txt says how to install from it.")
    for target in wanted:
        print(f"  {target}: {verdict(target, proved, proof)}")


def verdict(target: Target, proved: Target | None, proof: bool = True) -> str:
    """What is known about one target's part of the bundle.

    Complete means that every package is there, and that with nothing else uv chooses the same ones.

    >>> here = Target("macos-arm64", "3.12")
    >>> verdict(here, here)
    'proved: installed without a network on this machine, and the doctor found nothing wrong'
    >>> verdict(Target("windows-x86_64", "3.12"), here)
    'complete, but not tried, since this machine is another'
    """
    if target == proved:
        return "proved: installed without a network on this machine, and the doctor found nothing wrong"
    return f"complete, but not tried, {'since this machine is another' if proof else 'as --no-proof said'}"


def check_folder(folder: Path) -> None:
    """PackError if it holds something that is no bundle, for pack replaces what it finds."""
    if folder.exists() and not folder.is_dir():
        raise PackError(f"{folder} is a file: name a folder.")
    first = folder / "README.txt"
    ours = first.is_file() and first.read_text(encoding="utf-8", errors="replace").startswith(FIRST_LINE)
    if folder.is_dir() and any(folder.iterdir()) and not ours:
        raise PackError(f"{folder} holds something that bertlab pack did not make: name a new folder, or an empty one.")


def claim(folder: Path) -> None:
    """Make the folder, and let it say that it is a bundle that is not finished."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "SHA256SUMS").unlink(missing_ok=True)
    write(folder / "README.txt", f"{FIRST_LINE}\n\nThis bundle is not finished: run the same `bertlab pack` again.\n")


def write(file: Path, text: str) -> None:
    """Write a text file whole or not at all, with line ends that every system reads."""
    partial = _partial(file)
    partial.write_text(text, encoding="utf-8", newline="\n")
    os.replace(partial, file)


def _partial(path: Path) -> Path:
    """Where something is made before it gets its name."""
    return path.with_name(path.name + ".partial")


def write_installers(folder: Path, wanted: Sequence[Target]) -> None:
    """install.sh, install.ps1 and the install.py that both start, and bundle.json, which tells it for whom this is."""
    for name in ("install.py", "install.sh", "install.ps1"):
        shutil.copy(INSTALLERS / name, folder / name)
    (folder / "install.sh").chmod(0o755)
    platforms, pythons = (list(dict.fromkeys(getattr(target, field) for target in wanted)) for field in ("platform", "python"))
    write(folder / "bundle.json", json.dumps({"platforms": platforms, "pythons": pythons, "python_needed": PYTHON_NEEDED}, indent=2) + "\n")


def prove(folder: Path) -> None:
    """Run the bundle's own installer on this machine with no index, no configuration of pip's and no Hub; PackError if it fails."""
    print("The proof: installing from the bundle, without any index (a few minutes)", flush=True)
    hidden = ("PIP_", "UV_", "BERTLAB_", "PYTHON", "VIRTUAL_ENV")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    environment |= {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull, "HF_HUB_OFFLINE": "1", "PYTHON": sys.executable}
    with tempfile.TemporaryDirectory(prefix="bertlab-proof-", ignore_cleanup_errors=True) as place:
        course = Path(place) / "course"
        command = ["sh", str(folder / "install.sh"), str(course)]
        if os.name == "nt":
            command = ["powershell", "-ExecutionPolicy", "Bypass", "-File", str(folder / "install.ps1"), str(course)]
        _run(command, "The bundle could not be installed on this machine", env=environment, cwd=place)


def readme(wheels: dict[Target, list[Path]], course: int, proved: Target | None, commit: str) -> str:
    """The bundle's README.txt."""
    lines = [FIRST_LINE, ""]
    lines += ["To install, you need Python and about 2.5 GB of disk; nothing is fetched:", ""]
    lines += ["  Linux, macOS:  sh install.sh", "  Windows:       powershell -ExecutionPolicy Bypass -File install.ps1", ""]
    lines += ["It puts the course in bertlab-course in your home folder (or in the folder you name after the command), checks it,"]
    lines += ["and says how to open it.", ""]
    lines += ["For these systems:", ""]
    for target, files in wheels.items():
        size = sum(file.stat().st_size for file in files)
        state = "tried on such a machine" if target == proved else "complete, but not tried"
        lines.append(f"  {target}: {len(files)} packages, {size / 1e6:,.0f} MB ({state})")
    every = {file for files in wheels.values() for file in files}
    lines += ["", f"Together {len(every)} packages, {sum(file.stat().st_size for file in every) / 1e6:,.0f} MB, in wheelhouse/;"]
    lines += [f"the course, {course / 1e6:,.0f} MB, in bertlab/ (commit {commit}).", ""]
    lines.append(f"Python 3.11 must be {'.'.join(map(str, PYTHON_NEEDED))} or newer. Linux needs glibc 2.28 or newer, macOS must be {MACOS[0]} or newer.")
    lines += ["", "To check a copy of this folder:", "", "  Linux:  sha256sum -c --quiet SHA256SUMS", "  macOS:  shasum -a 256 -c SHA256SUMS | grep -v OK", ""]
    return "\n".join(lines)


def manifest(folder: Path) -> Iterator[str]:
    """Lines for sha256sum -c: every file of the bundle but the manifest itself."""
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder).as_posix()
        if file.is_file() and name not in ("SHA256SUMS", "SHA256SUMS.partial"):
            with file.open("rb") as stream:
                yield f"{hashlib.file_digest(stream, 'sha256').hexdigest()}  {name}\n"


def no_space(folder: Path) -> str:
    """One sentence about a full disk: how much is left where, and what to do."""
    folder = next(place for place in (folder, *folder.parents) if place.exists())
    free = " and ".join(f"{shutil.disk_usage(place).free / 1e6:,.0f} MB in {place}" for place in (folder, tempfile.gettempdir()))
    return f"The disk is full ({free} left). Make room or set TMPDIR to a larger disk, then run the same command again: it goes on where it stopped."


def _commit(root: Path) -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=root, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def _pip(*arguments, failed: str = "pip could not say how it is configured") -> str:
    if not importlib.util.find_spec("pip"):
        raise PackError(f"{sys.prefix} has no pip, which does the downloading: `python -m ensurepip` brings it.")
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    return _run([sys.executable, "-m", "pip", *map(str, arguments)], failed, env=environment)


def _run(command: Sequence[str], failed: str, **how) -> str:
    """What a command prints; PackError with the end of what it said if it fails."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8", errors="replace", **how)
    if done.returncode == 0:
        return done.stdout
    said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    if any("No space left on device" in line for line in said):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    important = [line for line in said if line.startswith(("ERROR", "error", "install:", "[FAIL]"))]
    raise PackError(f"{failed}: {' | '.join((important or said)[-4:])} (`{shlex.join(map(str, command[:6]))} ...`)")
