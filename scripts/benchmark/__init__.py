# SPDX-License-Identifier: GPL-2.0-or-later
"""What scripts/bench is made of: processes, ways to be watched, workloads, goals and tables."""
