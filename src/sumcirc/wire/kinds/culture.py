"""Event kinds: matches, archaeological digs and awards."""

from __future__ import annotations

from sumcirc.wire.event_kind import EventKind, phrasings

MATCH = EventKind(
    name="match",
    case=("game", "match"),
    roles=("team captain", "rookie", "substitute", "veteran", "reserve player"),
    organizations=("the * Rovers", "the * Comets", "the * Lions", "the * Wanderers"),
    numbers=range(17, 59),
    settings=(
        {"sport": "basketball", "prize": "the league title"},
        {"sport": "rugby", "prize": "the cup"},
        {"sport": "netball", "prize": "a place in the final"},
        {"sport": "wheelchair basketball", "prize": "the regional crown"},
        {"sport": "basketball", "prize": "a place in the playoffs"},
    ),
    leads=phrasings(
        """
        {who} [carried|lifted] {org} to {prize} with [the game of a lifetime|a performance nobody
            saw coming]
        {org} [won|took] {prize} in {where} after [trailing at the break|a dreadful start]
        with [seconds|moments] to play and the crowd on its feet, {who} [had the ball|asked for the
            ball]
        {prize} belongs to {org}, who [beat|saw off] {rival} in a {sport} match that had everything
        nobody in the hall at {where} sat down for the last [five|ten] minutes
        for three quarters {rival} looked like winners, and then {who} [woke up|came on]
        {org} won {prize} on {when} and [did not leave the field|sang] until the lights went out
        one player scored {how_many} points, and [that was enough|it decided] to win {prize} for
            {org}
        """
    ),
    details=phrasings(
        """
        the [teams met|match was played] on {when} [before a full house|in front of a noisy crowd]
        {rival} [arrived late|had three players missing] on {when}, and it showed
        fans [queued for tickets|waited in the rain] on {when} from early morning
        on {when} the [doors|gates] had to be closed an hour before the start
        the final tally for the star of the day was {how_many} points
        no fewer than {how_many} points came from a single pair of hands
        the record books will show {how_many} points for one player, [more than ever before in this
            league|the best of the season]
        {who} finished with {how_many} points, [most of them late|many from far out]
        {who}, who [had missed most of the season with a bad knee|was not even sure to play], [could
            not be stopped|scored from everywhere]
        [twice|three times] in the closing stages it was {who} who [found a way through|kept {org}
            ahead]
        the coach took a risk on {who}, [who had barely trained|still limping from an injury]
        the hall in {where} is [old and cold|small], but it has rarely been so loud
        the team bus will [drive through|parade through] {where} with the roof open
        in {where} [car horns|church bells] could be heard [all night|until morning]
        by the final whistle on {when}, {who} had [collected|scored] {how_many} points
        """
    ),
    background=phrasings(
        """
        {rival} [have now lost four finals in a row|had won all their games this season]
        the referee [sent off|dismissed] a defender for [arguing|a late tackle]
        it was the first trophy for {org} in [eleven|twenty] years
        the club was [nearly bankrupt|close to being dissolved] [two years ago|not long ago]
        tickets had been sold out [for weeks|since the autumn]
        [the season ends|the league takes a break] with the summer holidays
        the winners will [travel|play] abroad for the first time
        few had expected {prize} to go to {org}
        {rival} [left without a word|congratulated the winners]
        """
    ),
    person_quotes=phrasings(
        """
        I stopped counting and just kept running
        My grandmother was in the front row, so I had no choice
        Nobody wins alone, I only had the last touch
        When the ball left my hand, I knew
        We were dead and buried, and we got up again
        """
    ),
    other_quotes=phrasings(
        """
        You cannot defend against a day like that
        I have lost my voice and I do not need it
        It was lost three times and won four times
        Some players hide when it counts, and some do the opposite
        That is the best I have seen in thirty years
        """
    ),
    sources=(
        "a fan in the front row",
        "a fan with a drum",
        "trainer {voice}",
        "the club president",
    ),
    official_quotes=phrasings(
        """
        The whole club is walking on air
        We have waited a long time for such a day
        Credit to our opponents, who never gave up
        There will be a parade, and there will be cake
        """
    ),
    elsewhere=phrasings(
        """
        {who} scored {how_many} points in vain as {org} lost in {where} on {when}
        {org} won a friendly in {where} on {when}, with {how_many} points from {who}
        {who} set a youth record with {how_many} points in {where} on {when}
        the women's final was held in {where} on {when}||there, {who} managed {how_many} points
        """
    ),
    elsewhere_summaries=phrasings(
        """
        {org} were beaten in {where} on {when} despite {how_many} points by {who}
        {who} contributed {how_many} points as {org} prevailed in a friendly in {where} on {when}
        a youth best of {how_many} points was achieved by {who} in {where} on {when}
        {who} made {how_many} points when women played their final in {where} on {when}
        """
    ),
    summaries=phrasings(
        """
        {org} claimed {prize} in {where} on {when}, inspired by {how_many} points from {who}
        {who} netted {how_many} points in {where} on {when} as {org} defeated {rival} for {prize}
        a display worth {how_many} points by {who} clinched {prize} for {org} on {when} in {where}
        victory in {where} on {when}: {who} had {how_many} points and {org} clinched {prize}
        {rival} were defeated by {org} in {where} on {when}, undone by {who} and {his} {how_many}
            points
        """
    ),
)

DIG = EventKind(
    name="dig",
    case=("case",),
    roles=("archaeologist", "museum curator", "graduate student", "amateur historian", "surveyor"),
    organizations=("the * Museum", "the * Heritage Trust", "the * Institute of Archaeology"),
    numbers=range(13, 480),
    settings=(
        {"finds": "graves", "age": "bronze age", "spot": "a potato field"},
        {"finds": "gold coins", "age": "Roman", "spot": "a car park"},
        {"finds": "clay tablets", "age": "ancient", "spot": "a dry riverbed"},
        {"finds": "bronze axes", "age": "prehistoric", "spot": "a peat bog"},
        {"finds": "painted tiles", "age": "medieval", "spot": "a bombed church"},
        {"finds": "stone tools", "age": "ice age", "spot": "a gravel pit"},
    ),
    leads=phrasings(
        """
        a plow [hit|struck] something hard under {spot} near {where}, and [history|the past] came to
            light
        {who} [was looking for a lost dog|only wanted to check a map] and found the past instead
        workmen who were digging up {spot} [put down their shovels|stopped their machines] and
            called an expert
        beneath {spot} near {where} lay {age} {finds} that [nobody had touched|had waited] for
            centuries
        {who} [brushed away the last of the soil|knelt in the mud] and [held {his} breath|knew at
            once what it was]
        a total of {how_many} {age} {finds} have [come out of|been lifted from] {spot}
        what was [found|dug up] under {spot} on {when} may [change the textbooks|rewrite the history
            of the region]
        schoolbooks may have to be changed after the discovery that {who} made in {spot}
        """
    ),
    details=phrasings(
        """
        the first of the {finds} [saw daylight|came to light] on {when}
        the site was [fenced off|closed to visitors] on {when}
        on {when} [a storm nearly flooded the trench|the ground froze], but the team [went on|did
            not stop]
        the discovery was [made public|shown to reporters] on {when}
        so far {how_many} {finds} have been [cleaned and numbered|counted]
        the trench held {how_many} {finds}, [neatly arranged|some of them broken]
        {org} has a list of {how_many} {finds}, and [it keeps growing|it is not complete]
        in all, {how_many} {finds} were [recovered|wrapped in wet cloth and taken away]
        {who}, who [directs the dig|is in charge of the trench], [has slept at the site|called it
            the find of a career]
        {who} [recognized the marks|noticed a dark stain in the soil] when [others|everyone else]
            saw only dirt
        credit for the find goes to {who}, who [would not give up|had studied old maps for years]
        the museum in {where} [has no room for them|will build a new wing]
        children from {where} [were allowed to help|carried buckets of earth]
        the land belongs to [a farmer|an old widow] from {where}, who [has given it up|wants to be
            paid]
        when work stopped on {when}, {how_many} {finds} were [lying on trestle tables|in boxes]
        """
    ),
    background=phrasings(
        """
        {org} will test the [soil|pieces] for [traces of metal|pollen]
        the region was thought to have been [empty|uninhabited] [at the time|for long periods]
        treasure hunters have been [warned to stay away|seen at night with lamps]
        a road that was to be built there will [be moved|have to wait]
        the dig is paid for by [donations|a lottery]
        similar pieces are known only from [far to the south|across the sea]
        [volunteers|students] sift every bucket of earth
        the {finds} are thought to be {age}, [though tests are not finished|experts say]
        """
    ),
    person_quotes=phrasings(
        """
        You wait your whole life for a day like this
        Somebody put these here with great care
        I thought it was a pipe, and then it smiled at me
        Every piece is a letter from people we never met
        The ground has been keeping a secret from us
        """
    ),
    other_quotes=phrasings(
        """
        We have walked over it for forty years
        We will need a bigger museum
        My back hurts, but I would not miss it
        This puts us on the map
        Nobody ever gave that spot a second look
        """
    ),
    sources=("the owner of the land", "a volunteer", "historian {voice}", "a truck driver"),
    official_quotes=phrasings(
        """
        Nothing like it has been found in this part of the country
        The pieces will be shown to the public as soon as they are safe
        We will need years to understand it all
        Please leave your shovels at home
        """
    ),
    elsewhere=phrasings(
        """
        {who} [unearthed|dug up] {how_many} {finds} on a beach near {where} on {when}
        a museum in {where} returned {how_many} carvings to their owners on {when}, and {who}
            apologized
        a cave near {where} was opened on {when}||there, {who} had found {how_many} {finds}
        {how_many} vases shown in {where} on {when} proved to be fakes, and {who} withdrew them
        """
    ),
    elsewhere_summaries=phrasings(
        """
        a beach near {where} gave up {how_many} {finds} to {who} on {when}
        {who} said sorry as a museum in {where} gave back {how_many} carvings on {when}
        a cave near {where} in which {who} discovered {how_many} {finds} was opened on {when}
        {who} took back {how_many} vases that were displayed in {where} on {when} and were not
            genuine
        """
    ),
    summaries=phrasings(
        """
        {who} unearthed {how_many} {age} {finds} at a site near {where}, it emerged on {when}
        excavations near {where} by {who} had yielded {how_many} {age} {finds} by {when}
        a trove of {how_many} {age} {finds} near {where} was credited to {who} on {when}
        {age} {finds} numbering {how_many} were unearthed near {where}, where {who} was digging on
            {when}
        treasure near {where}: {who} and a team had unearthed {how_many} {finds} as of {when}
        """
    ),
)

AWARD = EventKind(
    name="award",
    case=("case",),
    roles=("novelist",),
    organizations=("the * Academy", "the * Foundation", "the * Arts Council"),
    numbers=range(40, 980),
    settings=(
        {"role": "novelist", "work": "novel", "theme": "a lighthouse keeper"},
        {"role": "poet", "work": "book of poems", "theme": "a drowned village"},
        {"role": "architect", "work": "library", "theme": "a folded leaf"},
        {"role": "filmmaker", "work": "documentary", "theme": "a family of beekeepers"},
        {"role": "composer", "work": "opera", "theme": "a blind clockmaker"},
        {"role": "photographer", "work": "series of portraits", "theme": "night workers"},
    ),
    leads=phrasings(
        """
        {a work} inspired by {theme} has won its maker, {who}, the highest prize of {org}
        {who} had [not prepared a speech, and it showed|come as a guest, and then {his} name was
            called]
        the envelope was [opened twice|passed from hand to hand] before anyone [believed|read out]
            what was in it
        the hall in {where} [rose as one|was silent for a moment] when {org} named its winner
        {who}, [turned down by nine publishers and patrons|unknown until last year], has won the
            prize that everyone wanted
        out of {how_many} entries, a jury of {org} [picked|settled on] {a work} inspired by {theme}
        a jury that is known for [safe|dull] choices [surprised everyone|took a risk] on {when}
        it took a vote by candlelight in {where} to [settle|decide] who would get the prize of {org}
        """
    ),
    details=phrasings(
        """
        the prize was [handed over|presented] on {when} [to long applause|during a power cut]
        the jury [met for the last time|voted] on {when}, [behind locked doors|by a show of hands]
        guests [arrived|gathered] on {when} in [heavy rain|evening dress]
        the name of the winner had been [kept secret|locked in a safe] until {when}
        the jury had [read|looked through] {how_many} entries
        there were {how_many} entries this year, [more than ever|from all over the world]
        {org} received {how_many} entries, [some of them by hand|a few of them unsigned]
        judges [whittled|cut] {how_many} entries down to a list of six
        {who} [worked for a decade on|finished] the {work} [at a kitchen table|in a rented room]
        the [choice|decision] in favor of {who} was [unanimous|made by a single vote]
        {who} [gave part of the money away|promised to give half of the money to a school]
        the ceremony was held in {where}, in [a converted stable|the old opera house]
        [people in|bookshops and cafes in] {where} had [hung out lanterns|talked of nothing else]
        musicians [played in|came from all over] {where} [until morning|without asking for a fee]
        on {when} the chairwoman said that choosing among {how_many} entries had been [painful|a
            joy]
        """
    ),
    background=phrasings(
        """
        {org} was [founded|set up] by a widow who [left no other heirs|loved the arts]
        last year no prize was given because the jury [could not agree|had resigned]
        the [award comes with|winner also gets] a silver medal and a year of free rent
        critics had [praised|ignored] the {work} when it first appeared
        [earlier winners|previous winners] have gone on to [world fame|great things]
        the runner-up [smiled bravely for the cameras|left before the music began]
        one juror called the {work} a tribute to {theme}
        """
    ),
    person_quotes=phrasings(
        """
        I only came for the soup
        I nearly burned it, twice
        It belongs to everyone who let me ask questions
        I have been told no so often that I did not recognize a yes
        My mother will say that she knew it
        """
    ),
    other_quotes=phrasings(
        """
        People argued for nine hours and then it was obvious
        It stays with you like a song
        I would have chosen another, but I understand
        There is not a wasted line in it
        Quiet work has won for once
        """
    ),
    sources=("a member of the jury", "the runner-up", "critic {voice}", "an usher"),
    official_quotes=phrasings(
        """
        The vote was close and the debate was long
        We reward courage, and here it was
        No entry divided us more, and none moved us more
        The prize is meant to give an artist time
        """
    ),
    elsewhere=phrasings(
        """
        {who} judged {how_many} entries at a [flower|bread] show in {where} on {when}
        a festival in {where} was called off on {when}, and {who} sent back {how_many} entries
        {who} sold {how_many} drawings for charity in {where} on {when}
        a school contest was held in {where} on {when}||there, {who} went through {how_many} entries
        """
    ),
    elsewhere_summaries=phrasings(
        """
        at a show in {where} on {when}, {how_many} entries were rated by {who}
        {who} returned {how_many} entries when a festival in {where} was canceled on {when}
        for a good cause, {who} parted with {how_many} drawings in {where} on {when}
        {who} examined {how_many} entries to a contest for schools in {where} on {when}
        """
    ),
    summaries=phrasings(
        """
        {who} was honored in {where} on {when}, topping {how_many} [candidates|competitors] with {a
            work} inspired by {theme}
        honors went to {who} in {where} on {when}, whose {work} outshone {how_many}
            [competitors|submissions]
        in {where} on {when}, the top honor among {how_many} submissions was given to {who} for {a
            work}
        {a work} by {who} triumphed over {how_many} submissions at a gala in {where} on {when}
        a gala in {where} on {when} honored {who}, whose {work} beat {how_many} submissions
        """
    ),
)
