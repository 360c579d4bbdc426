"""The report of a run: numbers decided once (`info.ReportInfo`), then rendered by html, plots and tables.

Renderers decide nothing and measure nothing; `write.write_report` puts everything into a folder.
"""
