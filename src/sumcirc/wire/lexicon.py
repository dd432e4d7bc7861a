"""Names of people and places, and names from which organizations are built.

All are invented or neutral. No word is in two lists, and no name is an ordinary word of the
articles, so a name in a summary was copied from its article. No surname ends in `s`, which avoids
two spellings of the possessive.
"""

from __future__ import annotations


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(","))


SURNAMES: tuple[str, ...] = _words(
    """
    Abara Abernathy Achterberg Adeyemi Aguilar Almeida Amoako Asante Ashworth Banerjee Baptista
    Barlow Becker Bergstrom Bianchi Bouchard Brandt Calloway Cardwell Carvalho Castellano Chaudhry
    Coelho Cordero Corrigan Crowther Delaney Delgado Dempsey Desai Dimitrov Donnelly Duarte Dunmore
    Dvorak Eklund Ekstrom Ellison Elsworth Engstrom Eriksen Escobar Eze Fairbairn Farouk Farrow
    Ferreira Finnegan Fontaine Friedman Fujita Gallagher Garrick Ghosh Greco Grimaldi
    Guerrero Haddad Hakimi Halvorsen Hartmann Hathaway Hellman Hennessy Hoang Holloway Hussain
    Ibrahim Inoue Iqbal Ishikawa Jalloh Jankowski Janssen Jimenez Jovanovic Kaplan Kapoor Karimi
    Kavanagh Kilbride Kimani Kirkland Kowalski Lambert Langford Larkin Laurent Lindqvist
    Lockhart Lombardi Lundgren Maddox Mancini Marchetti Mazur Merriweather Montoya Moreau
    Mulligan Mwangi Nair Nakamura Navarro Ndlovu Nettleton Northcott Novak Nwosu Nyberg Nygaard
    Obuya Oduya Okafor Okonkwo Olawale Ormond Ortega Osei Oyelaran Pacheco Paquette Pelletier
    Pemberton Pereira Petrov Pham Prescott Quintero Rafferty Rahimi Rasmussen Redfern
    Renaud Rinaldi Romero Rossi Salazar Sandoval Selwyn Sharma Sheehan Sidhu Silveira Sorensen
    Stanhope Steiner Takeda Tanaka Thackeray Thorvald Tierney Toivonen Tolliver Tran Ueda
    Underhill Usman Valdez Vandermeer Varga Vasquez Villanueva Vogel Wainwright Wallin Weiland
    Wetherby Whitcomb Winther Wojcik Xiong Yamada Yardley Yilmaz Yusuf Zamora Zapata Zhao Zielinski
    Zoric Zuniga
    """
)

WOMEN: tuple[str, ...] = _words(
    """
    Abigail Adele Amara Beatrice Bridget Camila Carmen Clara Daphne Doreen Elena Esther Eunice
    Fatima Florence Freya Gloria Greta Hana Harriet Imogen Ingrid Irene Joanna Judith Katarina Leila
    Lorena Lucia Marisol Marta Miriam Monica Nadia Nkechi Noemi Olivia Paulina Priya Rebecca
    Rosalind Simone Sofia Tamara Teresa Ursula Valeria Vera Wanda Yuki Yvonne Zainab
    """
)

MEN: tuple[str, ...] = _words(
    """
    Adrian Anders Andre Benedict Bruno Callum Cedric Daniel Desmond Dominic Edmund Emeka Felix
    Fergus Gareth Gustav Henrik Hiroshi Hugo Isaac Ivo Jonas Julian Karim Kenji Kwame Leon Lorenzo
    Malcolm Marcel Mateo Nathan Nikolai Obinna Omar Oscar Patrick Pavel Philip Quentin Rafael Rohan
    Roland Samuel Sergio Stefan Theodore Tomas Umberto Viktor Vincent Walter Xavier Zoltan
    """
)

PLACES: tuple[str, ...] = _names(
    """
    Port Ellery, Port Hanlow, Port Sabrin, Port Orrel, Lake Tamsin, Lake Verrin, Mount Halden,
    Mount Ressik, Fort Kessel, Fort Arlen, Saint Orva, Saint Brevin, New Corwick, New Tarrant,
    Marrow Bay, Pellam Bay, Tolland Bay, Sorrel Cove, Anvil Cove, Hatter Point, Lantern Point,
    Tanner Ridge, Corbel Ridge, Miller Crossing, Ferris Crossing, Aldermoor, Altenried, Adiwale,
    Almendrosa, Arvelle, Ashcombe, Beaurivage, Belmara, Belovar, Bellecombe, Bellhaven, Birkenthal,
    Brindleton, Bramholt, Carrowby, Castrovena, Chandrapar, Clairefont, Cobbleford,
    Cordevilla, Danwei, Darabun, Deepwell, Devangiri, Drostavik, Dunstead, Eldermere, Elmford,
    Elvestad, Evershaw, Fenwater, Ferozan, Foxmere, Falkenbruck, Glenrath, Goldsby, Grunfeld,
    Haipo, Harrowgate, Hazelbury, Hollowford, Inverlow, Ironford, Isenbach, Kaltbrunn,
    Kamenica, Kanduru, Kelsworth, Kestrelton, Kirkhollow, Kolvarra, Laocheng, Lindenau, Lowmere,
    Lubowice, Malikpura, Marenca, Mbariko, Merignon, Minasato, Monteclaro, Montaluro, Montrevel,
    Mossgate, Narikawa, Netherby, Norrington, Oberwald, Oshanda, Ostrovice, Pinebury,
    Pontarlac, Qasrabad, Quarrendon, Quillan, Rajanpet, Rookhurst, Roquemare,
    Rosenholm, Saltmarch, Salvatera, Sandrino, Sendari, Silberhof, Skarvik, Starovec, Stellwood,
    Sulamar, Tainong, Takazaki, Tarnbury, Thistleby, Thornwick, Torrealta, Tromvik, Tulembe,
    Underwick, Valcourt, Valdoria, Valemont, Vexford, Villamora, Vranova, Wickstead, Wrenfield,
    Yarrowdale, Yewbridge, Yunshan, Zankoro, Zeldon, Zennorby, Umbrasa, Orlavento,
    Ondarra, Jarrowmoor, Jelenica, Jasminko
    """
)

ORGANIZATION_NAMES: tuple[str, ...] = _words(
    """
    Amber Atlas Beacon Bluewater Clearwater Cobalt Crescent Eastmoor Falcon Foxglove Granite Harbor
    Heron Highmark Ironwood Juniper Keystone Lakeland Larkspur Meridian Northlake Pinnacle Redwood
    Sandstone Silverline Stonebridge Summit Tri-County Westhaven Willow
    """
)

WEEKDAYS: tuple[str, ...] = (
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
)
