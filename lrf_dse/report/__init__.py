"""The report of a run: every number is decided once (`info.ReportInfo`), then html, plots and tables render it.

Renderers decide nothing and measure nothing; `write.write_report` puts everything into a folder.
"""
