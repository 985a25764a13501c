"""Decides who goes next, where, and who must wait; knows users, costs and queues, not models."""
