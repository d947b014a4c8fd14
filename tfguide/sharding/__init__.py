"""How a model is divided among devices: what each layout keeps and sends, in closed form and on a counting mesh."""

from tfguide.sharding.layouts import LAYOUTS, attention_communication, best_mesh, check_mesh, ffn_communication, meshes
from tfguide.sharding.mesh import Mesh

__all__ = ["LAYOUTS", "Mesh", "attention_communication", "best_mesh", "check_mesh", "ffn_communication", "meshes"]
