"""The doctor finds what is there and names what mends what is not."""

import pytest

from imagoal import doctor
from imagoal.config import DoctorConfig
from imagoal.errors import UserError
from imagoal.jobs import doctor as job


def test_the_letter_covers_versions_machine_and_renderer() -> None:
    findings = {f.name: f for f in doctor.examine()}
    assert {"imagoal", "torch", "mujoco", "CPU", "GPU", "renderer", "disk"} <= set(findings)
    assert "per second" in findings["renderer"].value and not findings["torch"].fix


def test_what_is_missing_comes_with_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "installed", lambda name: None)
    findings = {f.name: f for f in doctor.packages()}
    assert findings["mujoco"].fix == doctor.INSTALL and findings["mujoco"].needed
    assert findings["wandb"].fix == 'pip install -e ".[wandb]"' and not findings["wandb"].needed


def test_a_version_out_of_range_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    from packaging.specifiers import SpecifierSet

    monkeypatch.setattr(doctor, "declared_ranges", lambda: {"mujoco": SpecifierSet("<3")})
    finding = next(f for f in doctor.packages() if f.name == "mujoco")
    assert "tested with <3" in finding.value and finding.fix


def test_missing_libraries_are_packages_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "GL_LIBRARIES", {"libNoSuch.so.9": "libnosuch9"})
    assert [f.fix for f in doctor.gl_libraries()] == ["apt-get install -y libnosuch9"]


def test_the_job_fails_when_something_needed_is_missing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(job, "examine", lambda: [doctor.Finding("GL", "missing", "apt-get install x"), doctor.Finding("a", "b")])
    with pytest.raises(UserError, match="mend with: apt-get install x"):
        job.main(DoctorConfig())
    monkeypatch.setattr(job, "examine", lambda: [doctor.Finding("wandb", "no", 'pip install -e ".[wandb]"', needed=False)])
    job.main(DoctorConfig())
    assert 'pip install -e ".[wandb]"' in capsys.readouterr().out
