"""`imagoal doctor`: print what this machine has and lacks."""

from rich.console import Console
from rich.text import Text

from imagoal.config import DoctorConfig
from imagoal.doctor import examine
from imagoal.errors import UserError


def main(config: DoctorConfig) -> None:
    """Print every finding as it is known; raises UserError when something the demo needs is missing."""
    console = Console(highlight=False, soft_wrap=True)
    broken = []
    for finding in examine():
        mark, colour = ("ok", "green") if not finding.fix else ("mend", "red") if finding.needed else ("-", "yellow")
        line = Text.assemble((f"{mark:<6}", colour), f"{finding.name:<20}{finding.value}")
        console.print(line.append(f"  ->  {finding.fix}", style="bold") if finding.fix else line)
        if finding.fix and finding.needed:
            broken.append(finding)
    if broken:
        raise UserError(f"{broken[0].name}: {broken[0].value}; mend with: {broken[0].fix}")
    console.print("All that the demo needs is here.")
