from .options import Options as Options
from .result import Result as Result
from .study import evaluate as evaluate
from .study import start as start
