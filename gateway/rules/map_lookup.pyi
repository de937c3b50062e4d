from gateway.config.map_table import MapTable

class MapLookup:
    name: str
    def __init__(self, name: str, table: MapTable, *, regex: bool, default: str | None) -> None: ...
