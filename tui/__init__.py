"""How training looks from a terminal. Reads run directories; never imports torch, directly or indirectly."""
