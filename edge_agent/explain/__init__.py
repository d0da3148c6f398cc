"""``edge-agent explain``: explains a finding in one sentence and one picture.

``recording`` and ``live`` find the findings that can be explained, ``case`` puts one together (pure), ``words`` writes
the sentence, ``picture`` draws. Only ``picture`` and the modules it draws with need matplotlib (the extra ``explain``).
"""
