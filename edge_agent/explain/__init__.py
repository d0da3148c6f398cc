"""``edge-agent explain``: what detection saw, in one sentence and one picture.

``recording`` and ``live`` find out what there is to explain, ``case`` puts it together (pure), ``words`` says it,
``picture`` draws it. Only ``picture`` and ``panels`` need matplotlib (the extra ``explain``).
"""
