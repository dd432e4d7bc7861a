"""Event kinds: rescues at sea, outbreaks of disease and thefts."""

from __future__ import annotations

from sumcirc.wire.event_kind import EventKind, phrasings

RESCUE = EventKind(
    name="rescue",
    case=("case", "incident"),
    roles=("skipper", "lifeboat captain", "coast guard pilot", "rescue swimmer", "tugboat master"),
    organizations=("the * Coast Guard", "the * Lifeboat Service", "* Ferries"),
    numbers=range(12, 240),
    settings=(
        {"vessel": "ferry", "people": "passengers"},
        {"vessel": "cruise boat", "people": "tourists"},
        {"vessel": "sailing ship", "people": "cadets"},
        {"vessel": "pilgrim boat", "people": "pilgrims"},
        {"vessel": "freighter", "people": "sailors"},
    ),
    leads=phrasings(
        """
        {a vessel} [ran onto rocks|lost its engine in heavy seas] off {where} and [began to sink|was
            soon taking on water]
        {who} [steered|turned] into [waves as high as houses|the worst of the storm] to reach {a
            vessel} in distress
        first the engine of the {vessel} [stopped|died], then the pumps, and then the lights went
            out
        all {how_many} {people} of a sinking {vessel} are [alive|safe] after a night that few of
            them [will|are likely to] forget
        the {vessel} went down [within sight of|a mile from] {where}, but not with anyone aboard
        a distress call that was [almost missed|barely heard] sent {who} out into [the dark|a rising
            gale]
        on {when} the sea off {where} [took|claimed] {a vessel}, but [none of those|nobody] on it
        {who} [has pulled many people from the sea|was about to go off duty], but nothing had
            [prepared {him} for|been like] the end of the {vessel}
        """
    ),
    details=phrasings(
        """
        the alarm was raised [before sunrise|toward midnight] on {when}
        the {vessel} had left port on {when} [in calm weather|despite a gale warning]
        the last of the {people} came ashore on {when}, [shivering but unhurt|to applause from the
            quay]
        by [noon|dusk] on {when} the {vessel} lay on the sea floor
        a count on the quay came to {how_many} {people}, [exactly as many as had left|and no name
            was missing]
        a total of {how_many} {people} were lifted off [one by one|in small groups], [children
            first|the injured first]
        the passenger list had {how_many} names, and [every one of them was ticked off|all of them
            answered]
        {org} said {how_many} {people} had been aboard
        {who} [brought {his} boat alongside|held {his} craft steady] [again and again|for two hours]
            while lines were thrown
        the first to reach the scene was {who}, [who had been on a training run|who lives nearby]
        without {who}, [survivors agreed|it was said on the quay], the outcome would have been
            [grim|very different]
        fishermen from {where} [joined the search|put out to sea as well] [without being asked|in
            small boats]
        the survivors were taken to a school in {where}, where [dry clothes|doctors] were waiting
        families gathered at the harbor of {where} and [waited for news|counted heads]
        when help came on {when}, {how_many} {people} were [clinging to rafts|huddled on the upper
            deck]
        """
    ),
    background=phrasings(
        """
        {org} will [inspect the wreck|look into the cause] once the weather clears
        [a worn fuel line|a cracked valve|an error in navigation] is thought to be the cause
        the {vessel} had passed its safety inspection [last winter|only months ago]
        waves were [too high|too steep] for helicopters during the first hour
        [three|four] people were treated for cold, and one for a broken wrist
        oil was seen on the water, but [beaches|bird colonies] were not in danger
        the strait is known for [sudden fog|currents that change within minutes]
        the {vessel} had been carrying {people} [all summer|for years] without trouble
        """
    ),
    person_quotes=phrasings(
        """
        We had one chance to get the line across
        Nobody on my crew asked whether we should go
        The sea gave them back, and it does not always do that
        I could hear them singing before I could see them
        A wave lifted us over the rail, and down we came again
        """
    ),
    other_quotes=phrasings(
        """
        We held on to each other and sang
        I had already said goodbye to my children
        The water was black and cold as iron
        I will never complain about life jackets again
        That crew should be given medals
        """
    ),
    sources=("one of the {people}", "the ship's cook", "deckhand {voice}", "a survivor"),
    official_quotes=phrasings(
        """
        Conditions were at the limit of what our boats can take
        We will need to know why the pumps failed
        Training pays off on nights like this
        The wreck is no danger to shipping
        """
    ),
    elsewhere=phrasings(
        """
        {who} [brought home|took off] {how_many} {people} from {a vessel} near {where} on {when}
        {a vessel} with {how_many} {people} drifted off {where} on {when} until {who} towed it in
        {a vessel} hit a pier in {where} on {when}||there, {who} helped {how_many} {people} ashore
        {a vessel} caught fire near {where} on {when}, and {who} saw {how_many} {people} jump
        """
    ),
    elsewhere_summaries=phrasings(
        """
        a total of {how_many} {people} left {a vessel} off {where} with the aid of {who} on {when}
        {who} took a drifting {vessel} in tow near {where} on {when}, with {how_many} {people}
            aboard
        with help from {who}, {how_many} {people} reached land in {where} on {when} after their
            {vessel} struck a pier
        {who} watched as {how_many} {people} leapt from a burning {vessel} off {where} on {when}
        """
    ),
    summaries=phrasings(
        """
        {who} rescued {how_many} {people} from a [foundering|doomed] {vessel} near {where} on
            {when}, and all survived
        a total of {how_many} {people} owe their lives to {who} after their {vessel} [sank|was lost]
            near {where} on {when}
        a shipwreck near {where} on {when} cost no lives: {who} rescued the {how_many} {people} from
            the {vessel}
        no one drowned when {a vessel} sank near {where} on {when}; {who} saved {how_many} {people}
        sea rescue near {where}: {how_many} {people} left a stricken {vessel} on {when} with the aid
            of {who}
        """
    ),
)

OUTBREAK = EventKind(
    name="outbreak",
    case=("case",),
    roles=("health officer", "hospital director", "epidemiologist", "public health doctor"),
    organizations=("the * Health Department", "the * Medical Center", "the * Health Board"),
    numbers=range(14, 620),
    settings=(
        {"illness": "measles", "origin": "a summer camp"},
        {"illness": "typhoid", "origin": "a water tank"},
        {"illness": "whooping cough", "origin": "a nursery school"},
        {"illness": "salmonella poisoning", "origin": "a school kitchen"},
        {"illness": "hepatitis", "origin": "an oyster bar"},
        {"illness": "cholera", "origin": "a public well"},
    ),
    leads=phrasings(
        """
        {illness} has [broken out|returned] in {where}, and the hospital is [filling up|running
            short of beds]
        {who} needed only one look at the [laboratory report|test results] to [pick up the
            telephone|cancel all leave]
        the waiting room was full before anyone had said the word {illness}
        schools in {where} have [closed|sent children home] while doctors [try to contain|look for
            the source of] {illness}
        an illness that most doctors know only from textbooks has [come back|reappeared], and {who}
            is [trying to stop it|racing to contain it]
        an outbreak of {illness} was [declared|confirmed] on {when} after [days of rumors|a week of
            puzzling fevers]
        a total of {how_many} people have come down with {illness}, and [more are expected|the count
            is still rising]
        what looked like a bout of flu in {where} has turned out to be {illness}
        """
    ),
    details=phrasings(
        """
        laboratory tests [confirmed the illness|left no doubt] on {when}
        the first patient was [admitted|seen] on {when}, with [fever and cramps|a high fever]
        an emergency ward was [opened|set up] on {when} [in a sports hall|in a former barracks]
        the [public|town council] was informed on {when}, [a day late in the eyes of some|at a
            crowded meeting]
        {org} has registered {how_many} patients so far
        so far {how_many} people have fallen ill, [most of them children|many of them from the same
            street]
        the number of patients [stood at|had reached] {how_many}, [none of them in danger|a few of
            them in serious condition]
        doctors have treated {how_many} people with the same [signs|symptoms]
        {who}, who leads the response, [traced the source to|suspects that it began at] {origin}
        {who} [went from house to house|called every family in person] to find those who had been
            exposed
        the work of finding the source falls to {who}, [a veteran of many such cases|who has not
            been home for days]
        pharmacies in {where} [ran out of|are short of] [masks|medicine]
        buses pass through {where} without stopping, and [the market|the cinema] is closed
        nurses have been sent to {where} from [all over the region|three neighboring districts]
        by the end of {when}, {how_many} people were [in the wards|under treatment]
        """
    ),
    background=phrasings(
        """
        {org} has set up a telephone line for worried parents
        people were told to [boil their water|wash their hands often] and to [stay at home|avoid
            crowds]
        [the illness is rarely fatal|most patients recover] when it is treated early
        vaccination rates in the region have [fallen|slipped] for years
        [visitors are not allowed|only parents may visit] on the wards
        a shipment of [vaccine|antibiotics] is on its way from the capital
        the clinic has asked retired nurses to come back to work
        {illness} had not been seen in the region [for a decade|for many years]
        """
    ),
    person_quotes=phrasings(
        """
        We can stop this, but not without help from every household
        Panic is the one thing that will make it worse
        The next two weeks will decide how far this goes
        We are looking for a source, not for somebody to blame
        If you have a fever, stay at home and call us
        """
    ),
    other_quotes=phrasings(
        """
        Nobody told us anything until it was everywhere
        I am keeping my daughters at home
        You hear coughing in every street
        We wash our hands until they hurt
        Everybody here knows somebody who has it
        """
    ),
    sources=(
        "a mother in the waiting room",
        "a bus driver",
        "school principal {voice}",
        "a pensioner",
    ),
    official_quotes=phrasings(
        """
        There is enough medicine for everyone
        We ask the public to be patient and to be careful
        The number of new patients should fall within days
        Every contact is being called
        """
    ),
    elsewhere=phrasings(
        """
        {who} treated {how_many} people for food poisoning in {where} on {when}
        {how_many} people fell ill at a wedding in {where} on {when}, and {who} blamed the fish
        a [gas leak|chemical spill] on {when} sent {how_many} people in {where} to doctors,
            according to {who}
        a boarding school in {where} was closed on {when}||there, {who} found {how_many} people with
            ringworm
        """
    ),
    elsewhere_summaries=phrasings(
        """
        bad food made {how_many} people patients of {who} in {where} on {when}
        fish was the cause, {who} said, when {how_many} wedding guests in {where} became sick on
            {when}
        {who} said that {how_many} people in {where} needed [care|treatment] after an accident on
            {when}
        ringworm shut a boarding school in {where} on {when}, where {who} counted {how_many}
            infections
        """
    ),
    summaries=phrasings(
        """
        {who} is fighting [a wave|a cluster] of {illness} in {where} that had infected {how_many}
            people by {when}
        by {when} {illness} had infected {how_many} residents of {where}, where {who} heads efforts
            to curb it
        on {when} the toll of {illness} infections in {where} was given as {how_many}, with {who}
            leading the fight
        health alarm in {where} on {when}: {illness} cases hit {how_many}, and {who} hopes to curb
            the spread
        a total of {how_many} infections with {illness} were known in {where} on {when} as {who}
            tried to curb the disease
        """
    ),
)

HEIST = EventKind(
    name="heist",
    case=("case", "theft"),
    roles=("detective", "police inspector", "chief investigator", "detective sergeant"),
    organizations=("the * Police", "the * Police Department", "the * Crime Bureau"),
    numbers=range(11, 480),
    settings=(
        {"house": "museum", "loot": "paintings"},
        {"house": "jewelry shop", "loot": "watches"},
        {"house": "library", "loot": "manuscripts"},
        {"house": "gallery", "loot": "prints"},
        {"house": "music school", "loot": "violins"},
        {"house": "auction house", "loot": "rare stamps"},
    ),
    leads=phrasings(
        """
        thieves [broke into|emptied] {a house} in {where} [without setting off a single alarm|and
            left hardly a trace]
        {who} has [little to go on|few clues]: a [rope|glove], a broken skylight and {a house} with
            bare walls
        the guard [saw nothing|was asleep], the alarm stayed silent, and [when the lights came on|in
            the morning] the {house} was [empty|bare]
        {who} was called to {a house} in {where} where [every case had been opened|the best pieces
            were gone]
        it took a gang less than ten minutes to strip {a house} of {how_many} {loot}
        the doors of {a house} were locked on {when}, and yet [everything of value was gone|the
            collection was gone]
        [somebody|someone] in {where} knew [the code|where the keys were kept], and that is how the
            {house} lost its treasures
        a theft at {a house} [puzzles|baffles] {who}, who has [solved|worked on] many such cases
        """
    ),
    details=phrasings(
        """
        the break-in was [noticed|discovered] by a cleaner on {when}
        on {when} the {house} had been [closed to the public|full of visitors until late]
        cameras [stopped recording|went dark] for an hour on {when}
        a white van was [seen|parked] behind the building on {when}
        an inventory showed that {how_many} {loot} were gone
        gone are {how_many} {loot}, [some of them insured|none of them insured]
        the thieves took {how_many} {loot} and left [the cash box|a cup of coffee] untouched
        {org} has published a list of the {how_many} {loot} that were taken
        {who}, who is in charge of the case, [believes the gang had help inside|has questioned the
            staff]
        {who} [spent the day|was seen] on the roof, [looking for fibers|measuring footprints]
        the inquiry is led by {who}, who [asked the public for help|would not rule anything out]
        roads out of {where} were [watched|blocked], but the van was not found
        dealers in and around {where} have been [warned|told to look out for the pieces]
        the {house} is the pride of {where}, [where people spoke of little else|and its doors will
            stay closed]
        a night watchman [found|counted] {how_many} empty [hooks and stands|places] on {when}
        """
    ),
    background=phrasings(
        """
        a reward has been offered for [any useful tip|the return of the collection]
        {org} said the [lock|skylight] had been opened with [professional|special] tools
        the collection took [decades|three generations] to assemble
        [experts|insurers] doubt that such pieces can be sold openly
        the alarm system had been [repaired|replaced] [last spring|a month ago]
        border posts and airports have been given photographs
        the director of the {house} [offered to resign|declined to comment]
        the {loot} had been [photographed|catalogued] only last year
        the {house} had [never been robbed before|opened a hundred years ago]
        """
    ),
    person_quotes=phrasings(
        """
        These people knew exactly what they wanted
        Somebody will try to sell, and then we will be there
        Every thief leaves something behind
        We are following [two|several] leads, and one of them is warm
        It was quick, it was quiet, and it was planned for months
        """
    ),
    other_quotes=phrasings(
        """
        I came in at six and it was all gone
        It is as if somebody had died
        They took what could not be replaced
        We heard a motor, but who looks out at that hour
        We check that door every night
        """
    ),
    sources=("the cleaner", "a night watchman", "curator {voice}", "the caretaker"),
    official_quotes=phrasings(
        """
        We are looking at every camera between here and the border
        We take any call seriously, however small
        It was the work of professionals
        Time is on our side, because such things are hard to sell
        """
    ),
    elsewhere=phrasings(
        """
        burglars took {how_many} {loot} from {a house} in {where} on {when}, and {who} arrested a
            suspect
        {who} [found|recovered] {how_many} stolen {loot} in a barn near {where} on {when}
        a safe was blown open in {where} on {when}||{who} there is looking for {how_many} missing
            {loot}
        {how_many} {loot} vanished from a train at {where} on {when}, and {who} has no suspect
        """
    ),
    elsewhere_summaries=phrasings(
        """
        {who} made an arrest after {how_many} {loot} were stolen on {when} from {a house} in {where}
        a barn near {where} held {how_many} stolen {loot}, which {who} discovered on {when}
        {who} is searching for {how_many} {loot} after thieves blasted a safe in {where} on {when}
        {who} has nobody to accuse over {how_many} {loot} that disappeared from a train at {where}
            on {when}
        """
    ),
    summaries=phrasings(
        """
        {who} is hunting burglars who stole {how_many} {loot} from {a house} in {where} on {when}
        burglars made off with {how_many} {loot} from {a house} in {where} on {when}, and {who} is
            investigating
        a total of {how_many} {loot} were stolen on {when} from {a house} in {where}, leaving {who}
            to find the culprits
        police under {who} are searching for {how_many} {loot} stolen in a burglary at {a house} in
            {where} on {when}
        burglary in {where}: {who} seeks the culprits who carried off {how_many} {loot} on {when}
        """
    ),
)
