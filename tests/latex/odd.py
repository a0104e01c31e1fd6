"""A spec whose words and names hold what LaTeX reads as commands, letters that it lacks, and a name as long as names may be."""

LONG = "a_rather_long_name_that_goes_on_and_on_and_on_for_ever_and_ever"
ODD = rf"""
ssir: 1
name: odd_names
title: '50% & more_of <that> #1 $x$ ~^ \frac{{}} 漢字 é “q” – α ∑'
paper: a_b & c, https://example.org/%s
idea: x_y {{z}} \end{{document}}
glossary: {{"α & β": a, 'x\y': u, "漢": x0, "#1": "a & b_c % d", "Ω_{{0}}": q, "ẑ": k, "a b": u}}
dims: {{model_width: 8, n: 4, x__y: 3, slot: unbounded}}
constants: {{tiny: 1e-30, large: 1.5e300, neg: -3}}
components:
  main_one:
    input: {{u: [model_width]}}
    graph:
      _lead: 2 * u
      trail_: -u ** 2 / 3
      x0: linear(u, model_width) - (u - u) - -3 * u
      k: u + u * tiny - large * u + neg
      {LONG}: tanh(linear(u, n, bias=true)) + sigmoid(linear(delay(u), n)) + where(position > 3, 1, where(start, 2, 3))
      b: {LONG} / (1 + square({LONG}))
      c: cumsum(b) + cummean(b) + cummax(hold(b, every=3)) + delay(b, steps=2, initial=1) ** 2
      d: select(window(b, slot), slot, 2) + mean(window(b, slot), over=slot)
      e: dot(softmax(dot(b, window(b, slot), over=n), over=slot), window(c, slot), over=slot)
      h: 0.5 * delay(h) + d + e + delay(delay(d))
      y: linear(h * lead_sum, model_width) + _lead + trail_ + x0 + k
      lead_sum: sum(_lead, over=model_width) % 3
    output: y
main: main_one
"""
