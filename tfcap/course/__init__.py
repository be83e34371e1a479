"""CS231n's modules under their own names: ``cs231n.rnn_layers`` is `tfcap.course.rnn_layers`.

A notebook of the course's third assignment becomes one on this package
by ``sed 's/cs231n\\./tfcap.course./g'``; ``docs/coming_from_cs231n.md`` says for which years, and what
differs.
"""
