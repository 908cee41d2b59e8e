"""Where a batch's issues come from: a folder of Markdown files, a plan file, or GitHub.

A source reads and translates; it never judges the graph (`core` refuses cycles, unknown ids and
duplicates), and it changes nothing anywhere. The one entry is `loading.load`.
"""
