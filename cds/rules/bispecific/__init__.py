"""Step-up bispecific T-cell engagers: agent table, dose history, ladder, judgement of orders.

Shared by the tarlatamab rules and `dosing.bispecific-step-up`; the agent's numbers are data
(cds/rules/tables/bispecific_ladders.yaml).
"""
