"""What the screens are made of. Widgets take data and draw; they know no files."""
