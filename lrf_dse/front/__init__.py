"""Fronts of points whose losses are all minimised: who is on one, where it bends, which few points stand for it.

pareto   fronts of any points, and of very many with three losses; knees
spread   a few points that stand for a whole front

Owns the geometry only: what the numbers mean is the caller's business.
"""
