"""The report in a real browser: plotly draws, tables sort, no script fails, and no request leaves the machine."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

WATCH = """<script>
const mistakes = [];
window.addEventListener("error", (event) => mistakes.push(event.message));
window.addEventListener("unhandledrejection", (event) => mistakes.push(String(event.reason)));
window.addEventListener("load", () => setTimeout(() => {
  document.querySelectorAll("#plans-table th")[4].click();
  document.getElementById("theme").click();
  document.documentElement.dataset.mistakes = JSON.stringify(mistakes);
  document.documentElement.dataset.loaded = JSON.stringify(performance.getEntriesByType("resource")
    .map((entry) => entry.name).filter((name) => !/^(data|blob):/.test(name)));
}, 4000));
</script>"""


@pytest.fixture(scope="module")
def dom(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.fail("chromium is missing: apt-get install chromium")
    scratch = tmp_path_factory.mktemp("browser")
    text = (folder / "report.html").read_text(encoding="utf-8")
    watched = scratch / "report.html"
    watched.write_text(text.replace("<head>", "<head>" + WATCH, 1), encoding="utf-8")
    flags = (
        "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking "
        "--disable-component-update --disable-sync --virtual-time-budget=10000 --window-size=1280,2400 --dump-dom"
    )
    command = [browser, *flags.split(), f"--user-data-dir={scratch / 'profile'}", watched.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_plotly_drew_both_charts(dom: str) -> None:
    for name in ("latency-accuracy", "bytes-accuracy"):
        start = dom.rindex("<figure>", 0, dom.index(f'id="chart-{name}"'))
        chart = dom[start : dom.index("</figure>", start)]
        assert "js-plotly-plot" in chart
        assert "data:image/svg+xml" not in chart  # the still picture made way
        assert len(re.findall(r'<path class="point"', chart)) == 9
        assert 'class="js-line"' in chart
        for text in ("dense (reference)", "accuracy drop ≤ 1", ">p2<"):
            assert text in chart


def test_no_script_failed_and_nothing_was_requested(dom: str) -> None:
    assert 'data-mistakes="[]"' in dom
    assert 'data-loaded="[]"' in dom


def test_a_click_sorts_the_plans(dom: str) -> None:
    table = dom[dom.index('id="plans-table"') : dom.index("</table>", dom.index('id="plans-table"'))]
    names = re.findall(r'<td class="text name" data-value="([^"]+)"', table)
    assert names == ["p7", "p6", "p5", "p3", "p4", "p2", "p1", "p8", "dense"]  # by flash_bytes
    assert 'aria-sort="ascending"' in table


def test_the_button_changes_the_theme(dom: str) -> None:
    assert re.search(r'<html[^>]*data-theme="(dark|light)"', dom)
