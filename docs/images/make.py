"""Make this folder's pictures from the demo's report: python docs/images/make.py [REPORT]."""

import json
import re
import sys
from pathlib import Path

from stemrl.report.picture import gif, still


def main(report: Path) -> None:
    """The fastest of the tasks that the report shows, as a still and moving."""
    text = report.read_text()
    story, shows = (
        json.loads(re.search(rf'id="{name}">(.*?)</script>', text)[1])
        for name in ("data", "scenes")
    )
    here = Path(__file__).parent
    (here / "adaptation.svg").write_text(still(story, shows[-1]) + "\n")
    gif(shows[-1:], here / "adaptation.gif", labelled=False)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/demo/report.html"))
