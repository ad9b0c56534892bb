# SPDX-License-Identifier: GPL-2.0-or-later
"""What is installed, and the Debian package that is made of it."""

import gzip
import os
import stat
import subprocess

import pytest

import harness

BUILD = os.path.dirname(harness.LEAKWATCH)
SHARED = ["bash-completion/completions/leakwatch", "fish/vendor_completions.d/leakwatch.fish",
          "leakwatch/leakwatch.schema.json", "leakwatch/default.supp", "doc/leakwatch/README.md"]
UNIT = "lib/systemd/system/leakwatch@.service"


def run(*argv, **environment):
    return subprocess.run(argv, env={**os.environ, **environment}, capture_output=True, text=True,
                          timeout=4 * harness.LIMIT, check=True).stdout


def modes(directory):
    """{path below the directory: its mode}, of the files."""
    return {os.path.relpath(os.path.join(place, name), directory):
            stat.S_IMODE(os.stat(os.path.join(place, name)).st_mode)
            for place, _, names in os.walk(directory) for name in names}


def assert_installed(found, prefix, expected):
    expected = {os.path.join(prefix, path) for path in expected}
    assert expected <= set(found), expected - set(found)
    for path, mode in found.items():
        assert path.startswith(prefix + "/"), path
        # no test program: one executable
        assert mode == (0o755 if path == f"{prefix}/bin/leakwatch" else 0o644), path


def test_install(tmp_path):
    run("cmake", "--install", BUILD, "--prefix", "/usr/local", DESTDIR=str(tmp_path))
    assert_installed(modes(tmp_path), "usr/local", [
        "bin/leakwatch", UNIT, "share/man/man1/leakwatch.1", "share/zsh/site-functions/_leakwatch",
        "share/doc/leakwatch/COPYING", *(f"share/{path}" for path in SHARED)])


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """The Debian package, and the directory into which it is unpacked."""
    directory = tmp_path_factory.mktemp("package")
    run("sh", "-c", 'umask 077; cpack --config "$1" -B "$2"', "sh", f"{BUILD}/CPackConfig.cmake",
        str(directory))
    packages = list(directory.glob("*.deb"))
    assert len(packages) == 1
    run("dpkg-deb", "-x", str(packages[0]), str(directory / "root"))
    return packages[0], directory / "root"


def test_package_contents(package):
    file, root = package
    version = run(harness.LEAKWATCH, "--version").split()[1]
    fields = run("dpkg-deb", "-f", str(file), "Package", "Version", "Depends", "Section")
    assert f"Package: leakwatch\nVersion: {version}\n" in fields
    assert "libunwind8" in fields and "libc6 (>= " in fields
    assert_installed(modes(root), "usr", [
        "bin/leakwatch", UNIT, "share/man/man1/leakwatch.1.gz",
        "share/zsh/vendor-completions/_leakwatch", "share/doc/leakwatch/changelog.gz",
        "share/doc/leakwatch/copyright", *(f"share/{path}" for path in SHARED)])
    for place, _, _ in os.walk(root / "usr"):  # whatever the umask was
        assert stat.S_IMODE(os.stat(place).st_mode) == 0o755, place
    with gzip.open(root / "usr/share/doc/leakwatch/changelog.gz", "rt") as changelog:
        assert changelog.readline().startswith(f"leakwatch ({version}) ")


@pytest.mark.usefixtures("engine")
def test_the_packaged_program_watches(package, target, healthy_watch, monkeypatch):
    """The stripped one, that is."""
    monkeypatch.setattr(harness, "LEAKWATCH", str(package[1] / "usr/bin/leakwatch"))
    each = target("each_function")
    watch = healthy_watch(each.pid, "-e", "50ms", "-i", "1h")
    plan = each.ask("begin")["leaks"]
    assert harness.by_leak(watch.settled_report()) == plan
    watch.detach()
