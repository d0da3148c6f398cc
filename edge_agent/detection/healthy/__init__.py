"""What healthy is for a component, learnt from its own life."""
