"""What a location of nginx inherits from the blocks around it."""

from dataclasses import dataclass

from gateway.importing.nginx_tree import Directive


@dataclass(frozen=True, slots=True)
class Scope:
    """Blocks, the outermost first."""

    blocks: tuple[Directive, ...]

    def inside(self, block: Directive) -> "Scope":
        """The scope of a block in this one."""
        return Scope((*self.blocks, block))

    def last(self, name: str) -> Directive | None:
        """The directive that counts: of the innermost block that has one."""
        return next((found for block in reversed(self.blocks) if (found := block.last(name)) is not None), None)

    def all(self, *names: str) -> list[Directive]:
        """The directives of a kind that adds up: those of the innermost block that has any."""
        return next((found for block in reversed(self.blocks) if (found := list(block.all(*names)))), [])

    def value(self, name: str, default: str = "") -> str:
        """The first argument of the directive that counts."""
        directive = self.last(name)
        return directive.args[0] if directive is not None and directive.args else default
