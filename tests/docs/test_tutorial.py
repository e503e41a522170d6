from places import ROOT


def test_the_tutorial_runs(run_page):
    """Whoever types the tutorial into an empty folder gets what it shows."""
    assert run_page(ROOT / "docs" / "tutorial.md") > 8
