from .options import Options as Options
from .study import start as start
