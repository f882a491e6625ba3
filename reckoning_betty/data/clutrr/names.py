"""First names for generated stories: one word each, none of them an English word that a sentence could contain."""

from reckoning_betty.data.clutrr.kinship import FEMALE, MALE
from reckoning_betty.errors import UserError

_MEN = """
Adam Albert Anton Benjamin Boris Carlos Cedric Conrad Cyril Daniel Diego Edgar Emil Erik Felix Fabian Georg
Hector Henrik Hugo Igor Isaac Ivan Jakob Joel Julian Karim Kevin Lars Leon Liam Lukas Magnus Marco Matteo Milan
Nathan Nils Noah Omar Oscar Otto Pablo Patrick Pedro Quentin Rafael Rashid Samuel Sergio Simon Stefan Tariq
Tobias Tomas Valentin Viktor Walter Xavier Yusuf
"""
_WOMEN = """
Ada Agnes Alma Amelia Anita Astrid Beatrice Bella Camilla Carla Chloe Clara Delia Diana Edith Elena Elsa Emma
Esme Fatima Fiona Frida Gerda Greta Hanna Helena Ida Ines Ingrid Irene Jana Julia Karin Katya Laura Lena Livia
Lucia Maria Mila Mira Nadia Nora Olga Paula Petra Quinn Ramona Rita Sabina Sara Selma Sofia Talia Tanja Ursula
Vera Wilma Yara Zoe
"""

NAMES: dict[str, tuple[str, ...]] = {MALE: tuple(_MEN.split()), FEMALE: tuple(_WOMEN.split())}

LARGEST_POOL = sum(map(len, NAMES.values()))


def name_pools(count: int, *, unseen: bool) -> tuple[dict[str, tuple[str, ...]], dict[str, tuple[str, ...]]]:
    """The names of training (and validation) and those of test, ``count`` each: half of them men's, half women's.

    The two pools are the same, or with ``unseen`` disjoint. UserError if there are not that many names.
    """
    largest = LARGEST_POOL // 2 if unseen else LARGEST_POOL
    if not 2 <= count <= largest:
        reason = " while the test has names of its own (unseen_names)" if unseen else ""
        raise UserError(f"num_names is {count}, but it must lie between 2 and {largest}{reason}; give num_names=20.")
    half = {MALE: (count + 1) // 2, FEMALE: count // 2}
    train = {gender: tuple(NAMES[gender][:size]) for gender, size in half.items()}
    test = {gender: tuple(NAMES[gender][size : 2 * size]) for gender, size in half.items()} if unseen else train
    return train, test
