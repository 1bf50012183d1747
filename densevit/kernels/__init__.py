"""What one device does faster than torch's plain form, behind drop-in functions and modules."""
