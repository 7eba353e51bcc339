from small_fixtures import model, undisturbed

__all__ = ["model", "undisturbed"]
