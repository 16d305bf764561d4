"""The function's zip: what is in it, what it needs, and whether it loads.

Over 250 lines: a build takes most of the time, and all tests look at the same two zips.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import MySQLdb
import pytest
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection

from servers import ROOT
from tests.support import packages

pytestmark = [pytest.mark.slow, pytest.mark.once]

# What is on every Lambda runtime, beside the C library's own parts (in one file each up to glibc 2.33).
BASE_LIBRARIES = {"libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "ld-linux-x86-64.so.2"}
BASE_LIBRARIES |= {"libgcc_s.so.1"}
LIBRARY = re.compile(r"\.so(\.|$)")
HIDE = """
for file in /usr/lib/x86_64-linux-gnu/libmariadb* /usr/lib/x86_64-linux-gnu/libmysqlclient* \
    /usr/lib/x86_64-linux-gnu/libssl* /usr/lib/x86_64-linux-gnu/libcrypto* /usr/lib/mysql/plugin; do
  [ -f "$file" ] && mount --bind /dev/null "$file"
  [ -d "$file" ] && mount -t tmpfs none "$file"
done
exec "$@"
"""


@pytest.fixture(scope="module")
def newest_package(tmp_path_factory: pytest.TempPathFactory, package: Path) -> Path:
    """The zip for the runtime that the stage names, whatever this Python is."""
    folder = tmp_path_factory.mktemp("newest")
    repository = packages.copy_repository(folder / "archive", git=False)
    built = packages.build(repository, folder / "newest.zip", runtime=stage()["runtime"])
    assert built.returncode == 0, built.stderr
    return folder / "newest.zip"


def stage(name: str = "production") -> dict[str, Any]:
    own: dict[str, Any] = json.loads((ROOT / "zappa_settings.json").read_text())[name]
    return {**stage(own["extends"]), **own} if "extends" in own else own


def names_in(package: Path) -> list[str]:
    with zipfile.ZipFile(package) as archive:
        return archive.namelist()


def libraries_in(package: Path, folder: Path) -> Iterator[tuple[str, set[str], set[str]]]:
    """Name, needed libraries and symbol versions of each compiled file."""
    with zipfile.ZipFile(package) as archive:
        for name in filter(LIBRARY.search, archive.namelist()):
            with Path(archive.extract(name, folder)).open("rb") as file:
                elf = ELFFile(file)
                dynamic = [section for section in elf.iter_sections() if isinstance(section, DynamicSection)]
                tags = [tag for section in dynamic for tag in section.iter_tags()]
                needed = {str(tag.needed) for tag in tags if tag.entry.d_tag == "DT_NEEDED"}  # type: ignore[attr-defined]
                versions = {
                    auxiliary.name
                    for section in elf.iter_sections()
                    if isinstance(section, GNUVerNeedSection)
                    for _, auxiliaries in section.iter_versions()
                    for auxiliary in auxiliaries
                }
                yield name, needed, versions


def glibc_asked_for(package: Path, folder: Path) -> tuple[int, ...]:
    versions = {version for _, _, asked in libraries_in(package, folder) for version in asked}
    found = [re.fullmatch(r"GLIBC_([\d.]+)", version) for version in versions]
    return max(tuple(int(part) for part in match[1].split(".")) for match in found if match)


def test_same_inputs_give_the_same_bytes_in_another_folder_and_without_git(package: Path, tmp_path: Path) -> None:
    repository = packages.copy_repository(tmp_path / "elsewhere", git=False)
    built = packages.build(repository, tmp_path / "again.zip")
    assert built.returncode == 0, built.stderr
    assert (tmp_path / "again.zip").read_bytes() == package.read_bytes()


def test_package_is_small(newest_package: Path) -> None:
    with zipfile.ZipFile(newest_package) as archive:
        unpacked = sum(info.file_size for info in archive.infolist())
    assert newest_package.stat().st_size <= 15_000_000
    assert unpacked <= 60_000_000


def test_package_holds_the_service_and_zappas_handler(package: Path) -> None:
    wanted = {"handler.py", "django_zappa_app.py", "zappa_settings.py", "certificates.pem"}
    wanted |= {"streaming/schedule.py", "videos/flush/workers.py"}
    wanted |= {f"videos/counters/lua/{script.name}" for script in (ROOT / "videos" / "counters" / "lua").glob("*.lua")}
    wanted |= {f"videos/migrations/{path.name}" for path in (ROOT / "videos" / "migrations").glob("0*.py")}
    assert wanted - set(names_in(package)) == set()


@pytest.mark.parametrize(
    "pattern",
    [
        r"(^|/)tests?/test_", r"^tests/", r"^docs/", r"^benchmarks/", r"^deploy/", r"^script/", r"^servers/", r"^\.",
        r"\.pyc$", r"^(boto3|botocore|s3transfer|pip|setuptools|granian|pytest|mypy)(/|-)", r"^var/", r"\.sqlite3",
        r"^\.env", r"^(requirements|README|CHANGELOG|pyproject)", r"/\.git", r"libmariadb",
    ],
)  # fmt: skip
def test_package_leaves_out(package: Path, pattern: str) -> None:
    assert [name for name in names_in(package) if re.search(pattern, name)] == []


def test_secrets_of_the_deployer_stay_outside(package: Path) -> None:
    with zipfile.ZipFile(package) as archive:
        assert [name for name in archive.namelist() if packages.SECRET.encode() in archive.read(name)] == []


def test_key_in_a_room_that_is_deployed_is_refused(tmp_path: Path) -> None:
    repository = packages.copy_repository(tmp_path / "repository", git=False)
    (repository / "streaming" / "server.key").write_text("-----BEGIN PRIVATE KEY-----")
    built = packages.build(repository, tmp_path / "package.zip")
    assert built.returncode != 0
    assert "streaming/server.key" in built.stderr


def test_unknown_stage_is_named_with_those_that_exist(tmp_path: Path) -> None:
    built = packages.build(ROOT, tmp_path / "package.zip", stage="staging")
    assert built.returncode != 0
    assert "production_api" in built.stderr


def test_compiled_files_are_for_the_runtimes_python(newest_package: Path) -> None:
    tag = stage()["runtime"].removeprefix("python").replace(".", "")
    wrong = [
        name
        for name in names_in(newest_package)
        if LIBRARY.search(name) and f".cpython-{tag}-" not in name and ".abi3." not in name
    ]
    assert wrong == []


def test_compiled_files_need_only_what_the_runtime_has(newest_package: Path, tmp_path: Path) -> None:
    surplus = {name: needed - BASE_LIBRARIES for name, needed, _ in libraries_in(newest_package, tmp_path)}
    assert surplus  # there are compiled files at all
    assert {name: needed for name, needed in surplus.items() if needed} == {}


def test_newest_runtimes_c_library_is_new_enough(newest_package: Path, tmp_path: Path) -> None:
    assert glibc_asked_for(newest_package, tmp_path) <= (2, 34)  # Amazon Linux 2023


def test_newest_package_loads_on_its_own_python(newest_package: Path, tmp_path: Path) -> None:
    python = shutil.which(stage()["runtime"])
    if python is None:
        pytest.skip(f"no {stage()['runtime']} here: its compiled files are checked by the tests around this one")
    task = packages.unpack(newest_package, tmp_path / "task")
    loaded = packages.run_alone(
        task,
        "import streaming.schedule, MySQLdb, hiredis, yaml, rpds; print(MySQLdb.get_client_info())",
        python=python,
    )
    assert loaded.returncode == 0, loaded.stderr


def test_local_runtimes_c_library_is_new_enough(package: Path, tmp_path: Path) -> None:
    newest = (2, 26) if sys.version_info < (3, 12) else (2, 34)  # Amazon Linux 2 up to python3.11
    assert glibc_asked_for(package, tmp_path) <= newest


def test_function_has_the_pins_of_production() -> None:
    production, function = (
        dict(re.findall(r"^([\w.-]+)==([\w.]+)", (ROOT / name).read_text(), re.MULTILINE))
        for name in ("requirements.txt", "requirements/lambda.txt")
    )
    different = {
        name: (version, production.get(name))
        for name, version in function.items()
        if name != "mysqlclient-static" and production.get(name) != version
    }
    assert different == {}


def test_driver_loads_without_any_library_of_the_system(task: Path) -> None:
    code = "import MySQLdb, re; print(*{line.split()[-1] for line in open('/proc/self/maps') if '.so' in line})"
    loaded = packages.run_alone(task, code)
    assert loaded.returncode == 0, loaded.stderr
    outside = {Path(path).name for path in loaded.stdout.split() if not path.startswith(str(task))}
    of_python = {name for name in outside if name.startswith("libpython") or ".cpython-" in name}
    assert {name for name in outside if "mysql" in name or "maria" in name} == set()
    assert any("_mysql" in path for path in loaded.stdout.split())
    assert outside - of_python - {"libz.so.1", "libcrypto.so.3", "libssl.so.3"} <= BASE_LIBRARIES


def test_driver_loads_where_the_systems_libraries_are_hidden(task: Path) -> None:
    unshare = shutil.which("unshare")
    allowed = unshare and subprocess.run([unshare, "-rm", "true"], capture_output=True, check=False).returncode == 0
    if not allowed:
        pytest.skip("no namespaces here: what the driver maps is checked by the test above")
    assert unshare is not None
    loaded = packages.run_alone(
        task, "import MySQLdb; print(MySQLdb.get_client_info())", wrapper=[unshare, "-rm", "sh", "-c", HIDE, "sh"]
    )
    assert loaded.returncode == 0, loaded.stderr
    assert loaded.stdout.startswith("3.")


def test_clock_door_and_commands_load_without_zappa(task: Path) -> None:
    commands = "from videos.management.commands import flush_counters, reconcile_counters"
    opened = packages.run_alone(task, f"from streaming.schedule import flush, reconcile; {commands}")
    assert opened.returncode == 0, opened.stderr


def test_zip_alone_finds_no_boto3(task: Path) -> None:
    assert packages.run_alone(task, "import boto3").returncode != 0


def test_settings_of_zappa_know_no_secret(task: Path) -> None:
    settings = packages.run_alone(task, "import zappa_settings as s; print(s.ENVIRONMENT_VARIABLES, s.DEBUG)")
    assert settings.stdout.strip() == "{} False"


SECRET_NAMES = ("SECRET_KEY", "DATABASE_URL", "REDIS_URL")


def test_stages_hold_no_values_of_secrets() -> None:
    for name in ("production", "production_api"):
        variables = stage(name)["aws_environment_variables"]
        assert [variables[key] for key in SECRET_NAMES] == [f"${key}" for key in SECRET_NAMES]


def test_flush_only_stage_has_no_gateway_and_nothing_that_zappa_adds_by_itself() -> None:
    production = stage()
    off = dict.fromkeys(("apigateway_enabled", "keep_warm", "debug", "touch", "manage_roles"), False)
    assert {key: production[key] for key in off} == off


def test_names_of_scheduled_functions_survive_zappas_rule_names() -> None:
    functions = [event["function"] for name in ("production", "production_api") for event in stage(name)["events"]]
    assert functions == ["streaming.schedule.flush"]
    assert not any("-" in function for function in functions)


CIPHER = """
import django; django.setup()
from django.db import connection
with connection.cursor() as cursor:
    cursor.execute("SHOW STATUS LIKE 'Ssl_cipher'")
    print(cursor.fetchone()[1])
"""


class Login:
    """A new user on the tests' MySQL, known to nobody's cache, and the certificate that signed the server's."""

    def __init__(self, url: str) -> None:
        self.address = re.sub(r"^mysql://[^@]*@|/[^/]*$", "", url)
        host, port = self.address.split(":")
        self.root = MySQLdb.connect(host=host, port=int(port), user="root")
        self.name = f"deployed_{os.urandom(4).hex()}"
        self.run(f"CREATE USER {self.name} IDENTIFIED WITH caching_sha2_password BY 'secret'")
        self.certificate = Path(self.run("SELECT @@datadir")) / "ca.pem"

    def run(self, statement: str) -> str:
        with self.root.cursor() as cursor:
            cursor.execute(statement)
            return str((cursor.fetchone() or [""])[0])

    def with_options(self, task: Path, options: str) -> subprocess.CompletedProcess[str]:
        url = f"mysql://{self.name}:secret@{self.address}/information_schema{options}"  # every user may read that one
        environment = {"DATABASE_URL": url, "DJANGO_SETTINGS_MODULE": "streaming.settings"}
        return packages.run_alone(task, CIPHER, environment=environment)


@pytest.fixture
def login(database_kind: str) -> Iterator[Login]:
    if database_kind != "mysql":
        pytest.skip("caching_sha2_password is MySQL's: runs with --on mysql")
    user = Login(os.environ["DATABASE_URL"])
    yield user
    user.run(f"DROP USER {user.name}")
    user.root.close()  # type: ignore[no-untyped-call]


@pytest.mark.database
@pytest.mark.only("mysql")
@pytest.mark.parametrize("mode", ["REQUIRED", "VERIFY_CA&ssl-ca={ca}", "VERIFY_IDENTITY&ssl-ca={ca}"])
def test_driver_logs_in_with_tls(login: Login, task: Path, mode: str) -> None:
    outcome = login.with_options(task, f"?ssl_mode={mode}".format(ca=login.certificate))
    assert outcome.stdout.startswith("TLS_"), outcome.stderr


@pytest.mark.database
@pytest.mark.only("mysql")
def test_driver_logs_in_without_tls(login: Login, task: Path) -> None:
    outcome = login.with_options(task, "?ssl_mode=DISABLED")
    assert (outcome.returncode, outcome.stdout.strip()) == (0, ""), outcome.stderr


@pytest.mark.database
@pytest.mark.only("mysql")
def test_server_that_somebody_else_signed_is_refused(login: Login, task: Path, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=stranger", "-days", "2"]
    subprocess.run([*command, "-keyout", tmp_path / "key", "-out", stranger], check=True, capture_output=True)
    outcome = login.with_options(task, f"?ssl_mode=VERIFY_CA&ssl-ca={stranger}")
    assert "certificate" in outcome.stderr
