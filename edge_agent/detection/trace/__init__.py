"""What a component went through, kept for the picture that explains a finding."""
