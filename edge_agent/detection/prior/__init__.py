"""What healthy assets of a class are like, until a component's own baseline stands."""
