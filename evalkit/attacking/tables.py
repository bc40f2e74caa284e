"""Letters that look alike, spellings of two countries, and how people misspell: small tables of our own.

Not a lexicon: what is not listed is not attacked, and each attack says how many places it found.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

ZERO_WIDTH_SPACE = "\u200b"
ARTICLES = ("a", "an", "the")

# One letter each, so that an attacked text can be read back: Cyrillic where it has the shape, else Greek or Latin
# letters of other alphabets.
_LATIN = "aceijlopsxyABCEHIJKMNOPSTXYZdghqvw"
_ALIKE = (
    "\u0430\u0441\u0435\u0456\u0458\u04cf\u043e\u0440\u0455\u0445\u0443"
    "\u0410\u0412\u0421\u0415\u041d\u0406\u0408\u041a\u041c\u039d\u041e\u0420\u0405\u0422\u0425\u0423\u0396"
    "\u0501\u0261\u04bb\u051b\u03bd\u051d"
)
HOMOGLYPHS: Mapping[str, str] = MappingProxyType(dict(zip(_LATIN, _ALIKE, strict=True)))

# American first, British second, lower case; endings are spelt out because rules on them make words that are none.
_PAIRS = """
color colour|colors colours|colored coloured|favor favour|favorite favourite|favorites favourites|honor honour
honored honoured|labor labour|neighbor neighbour|neighbors neighbours|neighborhood neighbourhood|harbor harbour
rumor rumour|rumors rumours|flavor flavour|flavors flavours|humor humour|behavior behaviour|behaviors behaviours
endeavor endeavour|savior saviour|armor armour|vapor vapour|center centre|centers centres|centered centred
theater theatre|theaters theatres|meter metre|meters metres|liter litre|liters litres|fiber fibre|fibers fibres
somber sombre|luster lustre|specter spectre|caliber calibre|organize organise|organized organised
organizing organising|organization organisation|organizations organisations|realize realise|realized realised
realizing realising|recognize recognise|recognized recognised|recognizing recognising|analyze analyse
analyzed analysed|analyzing analysing|apologize apologise|apologized apologised|criticize criticise
criticized criticised|emphasize emphasise|emphasized emphasised|summarize summarise|summarized summarised
minimize minimise|maximize maximise|optimize optimise|optimized optimised|optimization optimisation
utilize utilise|utilized utilised|generalize generalise|generalization generalisation|specialize specialise
specialized specialised|characterize characterise|characterized characterised|normalize normalise
normalized normalised|defense defence|offense offence|pretense pretence|catalog catalogue
dialog dialogue|analog analogue|traveled travelled|traveling travelling|traveler traveller|canceled cancelled
canceling cancelling|labeled labelled|labeling labelling|modeled modelled|modeling modelling|signaled signalled
fueled fuelled|leveled levelled|jewelry jewellery|counselor counsellor|marvelous marvellous|fulfill fulfil
enroll enrol|skillful skilful|gray grey|plow plough|skeptical sceptical|skepticism scepticism|mustache moustache
aluminum aluminium|pajamas pyjamas|airplane aeroplane|maneuver manoeuvre|program programme
programs programmes|mom mum|math maths|esthetic aesthetic|anemia anaemia|pediatric paediatric
estrogen oestrogen|tumor tumour|tumors tumours|mold mould|aging ageing|judgment judgement
"""
AMERICAN_TO_BRITISH: Mapping[str, str] = MappingProxyType(
    {pair.split()[0]: pair.split()[1] for pair in _PAIRS.replace("\n", "|").split("|") if pair.strip()}
)

# A common word and one way in which hands and ears get it wrong.
_WRONG = """
the teh|and adn|because becuase|their thier|there ther|they thye|which wich|would woudl|could coudl|should shoudl
about abuot|people poeple|through thruogh|before befor|until untill|believe beleive
receive recieve|achieve acheive|friend freind|friends freinds|field feild|weird wierd|beginning begining
really realy|finally finaly|usually usualy|especially especialy|actually actualy|generally generaly
necessary neccessary|occurred occured|definitely definately|separate seperate|government goverment
environment enviroment|development developement|different diffrent|important importent|interesting intresting
tomorrow tommorow|immediately immediatly|experience experiance|existence existance|independent independant
successful succesful|success sucess|business buisness|beautiful beatiful|knowledge knowlege|language langauge
available availible|accommodate accomodate|address adress|across accross|always allways|another anothor
argument arguement|basically basicly|calendar calender|character charecter|children childern|committee comitee
completely completly|country contry|decision desicion|disappear dissapear|during durring|embarrass embarass
every evry|example exemple|family famly|foreign foriegn|forward foward|further furthur|grammar grammer
guarantee garantee|happened happend|height hieght|history histroy|however howver|including inclding
information infromation|interest intrest|library libary|little litle|maintenance maintainance|many mnay
material meterial|minute minuite|money mony|more moer|most msot|neither niether|never nevr|number nubmer
often offen|only olny|opinion opinon|other otehr|parliament parliment|particular particuler|perhaps prehaps
place palce|possible posible|prefer prefere|probably probaly|problem probelm|question qestion|quite qiute
reason reson|recommend reccomend|relevant relevent|research reserch|science sience|several severel
similar similer|since sicne|society soceity|something somthing|sometimes somtimes|special speical
strength strenght|student studnet|students studnets|surprise suprise|system sytem|than tahn|that taht
them tehm|then tehn|these theese|thing thign|things thigns|think thikn|this tihs|those thsoe|thought thougt
together togather|truly truely|under udner|understand undestand|university univeristy|using useing|very vrey
water watter|were wre|when wehn|where whre|while whiel|with wiht|within withing|without wihtout
world wrold|write wirte|written writen|year yaer|years yaers|young yuong|your yuor
"""
MISSPELLINGS: Mapping[str, str] = MappingProxyType(
    {pair.split()[0]: pair.split()[1] for pair in _WRONG.replace("\n", "|").split("|") if pair.strip()}
)
