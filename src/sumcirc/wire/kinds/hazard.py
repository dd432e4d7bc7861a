"""Event kinds: fires, floods and storms."""

from __future__ import annotations

from sumcirc.wire.event_kind import EventKind, phrasings

FIRE = EventKind(
    name="fire",
    case=("case", "incident"),
    roles=("firefighter", "fire captain", "paramedic", "off-duty nurse", "deputy fire chief"),
    organizations=("the * Fire Department", "the * Fire Brigade", "the * Rescue Service"),
    numbers=range(12, 190),
    settings=(
        {"site": "hotel", "people": "guests"},
        {"site": "boarding house", "people": "lodgers"},
        {"site": "apartment block", "people": "tenants"},
        {"site": "nursing home", "people": "residents"},
        {"site": "school dormitory", "people": "students"},
        {"site": "theater", "people": "visitors"},
    ),
    leads=phrasings(
        """
        flames [tore|raced|swept] through {a site} in {where} as {who} [went from door to door to
            wake the {people}|kicked in one locked door after another]
        {who} was the last to [leave|walk out of] a burning {site} in {where}, [{his} face black
            with soot|coughing and soaked to the skin]
        it began with a smell of smoke on the stairs and ended with {a site} in [ruins|ashes]
        fire [gutted|destroyed] {a site} in {where}, [sending a column of black smoke over the
            rooftops|and its glow could be seen for miles]
        the lights had already failed when {who} [ran|climbed] back into {a site} [filled with
            smoke|that was burning from end to end]
        [quick thinking|a cool head] kept a fire at {a site} from [becoming a tragedy|costing
            lives], and the credit goes to {who}
        every one of the {how_many} {people} of {a site} got out alive [when|after] fire broke out
            on the ground floor
        {a site} [burned to the ground|was lost to fire] on {when}, but [all inside were
            saved|nobody died]
        """
    ),
    details=phrasings(
        """
        the [blaze|fire] [broke out|started] [shortly before dawn|in the early hours|late in the
            evening] on {when}
        the first call [came in|reached the switchboard] on {when}, when most of the {people} were
            [asleep|at supper]
        on {when} [firefighters|crews] fought for [six|nine] hours to bring the [blaze|fire] under
            control
        by nightfall on {when} little was left of the {site} but its outer walls
        in all, {how_many} {people} were [brought|led|carried] to safety
        a roll call in the [parking lot|street] showed that {how_many} {people} had been inside and
            that none was missing
        {org} put the number of {people} rescued from the fire at {how_many}
        wrapped in blankets, {how_many} {people} [watched from across the street|stood on the
            pavement] as the {site} burned
        {who}, who had noticed the smoke first, woke the building floor by floor
        it was {who} who [found the back stairs clear|forced open an exit] and led the way out
        {who} went in [four|five] times before the heat became too [great|fierce]
        the {site} had stood [near the center|on the main street] of {where} for [half a
            century|generations]
        crews from [three|several] districts were sent to {where} to help fight the fire
        streets in the middle of {where} were closed until the smoke cleared
        the {how_many} {people} of the {site} were asleep when the fire took hold on {when}
        """
    ),
    background=phrasings(
        """
        [investigators believe a faulty heater was to blame|the cause was not yet known|an
            electrical fault is suspected by experts]
        [two|three] firefighters were treated for [burns|smoke], {org} said
        the building had no sprinklers, [records show|although the law requires them]
        strong wind [drove|pushed] the flames toward [a row of shops|the house next door]
        [neighbors|volunteers] brought [blankets and hot tea|coats and soup] for people who had lost
            everything
        those left without a bed were [taken to a church hall|given mats in a gymnasium]
        the roof came down [within the hour|before ladders could be raised]
        """
    ),
    person_quotes=phrasings(
        """
        There was no time to think
        You could not see your own hand in there
        I just kept knocking until somebody answered
        Anybody would have done the same
        We were [minutes|moments] from losing people
        The back stairs were still clear, so that is the way we went
        """
    ),
    other_quotes=phrasings(
        """
        We heard someone shouting and ran
        The building is finished, but everyone is alive
        I got out with my coat and nothing else
        It went up like dry straw
        The heat broke windows across the street
        """
    ),
    sources=("one of the {people}", "a neighbor", "shopkeeper {voice}", "the owner of the {site}"),
    official_quotes=phrasings(
        """
        We count heads first and ask questions later
        Every [engine|ladder] we have was on that street
        The alarm reached us in time, and that made the difference
        The inquiry has only begun
        """
    ),
    elsewhere=phrasings(
        """
        fire on {when} [damaged|destroyed] {a site} in {where}, where {who} helped {how_many}
            {people} to safety
        {who} [pulled|led] {how_many} {people} from {a site} in {where} on {when}
        a blaze [emptied|closed] {a site} in {where} on {when}||there, {who} said, {how_many}
            {people} had to be moved
        {how_many} {people} fled {a site} in {where} on {when}, and {who} was treated for burns
        """
    ),
    elsewhere_summaries=phrasings(
        """
        {who} got {how_many} {people} out of a burning {site} in {where} on {when}
        some {how_many} {people} of {a site} in {where} were brought outside by {who} on {when}
        according to {who}, flames at {a site} in {where} on {when} forced {how_many} {people} to
            leave
        {who} suffered burns in {where} on {when} as {how_many} {people} escaped from {a site}
        """
    ),
    summaries=phrasings(
        """
        {who} saved {how_many} {people} [from a burning {site}|when {a site} caught fire] in {where}
            on {when}, as crews battled the flames
        an inferno at {a site} in {where} on {when} was [survived|escaped] by all {how_many}
            {people}, thanks to {who}
        heroism by {who} allowed {how_many} {people} to escape {a site} fire in {where} on {when}
        a total of {how_many} {people} survived the {where} {site} fire on {when} because {who}
            guided them outside
        rescue in {where}: {who} is credited with getting {how_many} {people} out of a blazing
            {site} on {when}
        """
    ),
)

FLOOD = EventKind(
    name="flood",
    case=("case", "flood"),
    roles=("Mayor", "flood warden", "river engineer", "civil defense chief", "Deputy Mayor"),
    organizations=("the * Water Authority", "the * River Board", "the * Flood Office"),
    numbers=range(60, 980),
    settings=(
        {"water": "river", "cause": "days of rain"},
        {"water": "river", "cause": "melting snow"},
        {"water": "lake", "cause": "a week of downpours"},
        {"water": "reservoir", "cause": "a cloudburst"},
        {"water": "canal", "cause": "a broken lock"},
    ),
    leads=phrasings(
        """
        the {water} [rose|climbed] faster than anyone in {where} could remember, and then it came
            over the [wall|bank]
        {who} had warned for years that the {water} would one day [win|come]
        muddy water [poured|surged] through {where} after {cause} [swelled the {water}|proved too
            much for the {water}]
        by the time the sirens [sounded|went off], {who} had already [sent buses into the lowest
            streets|told the lowest streets to leave]
        for a night the main street was [a stream|part of the {water}], and people [left|crossed] it
            in rowing boats
        {cause} and an old levee were all it took to put {how_many} homes under water
        boats replaced cars in {where} after the {water} [broke its banks|spilled over]
        on {when} the {water} did what [engineers had long feared|the old maps had predicted]
        {who} ordered [whole streets|entire districts] of {where} to empty as the {water} rose
        """
    ),
    details=phrasings(
        """
        the {water} [broke through|spilled over] [before dawn|around noon] on {when}, after {cause}
        the levee gave way on {when}, [with a sound like thunder|with hardly a sound]
        water reached the [doorsteps|ground floors] of the first houses on {when}
        the order to leave went out on {when}, [hours before the crest|while the roads were still
            open]
        {org} counted {how_many} homes with water on the ground floor
        in the end {how_many} homes [were under water|stood in mud up to the windows]
        the flood [ruined|damaged] {how_many} homes, [most of them uninsured|many of them new]
        a first survey from the air showed {how_many} homes [cut off|surrounded by water]
        {who} gave the order to [leave|evacuate] and was [the last to|among the last to] go
        {who} [spent the night|stayed] on the levee with volunteers who were filling sandbags
        the decision not to wait for the crest was taken by {who} [alone|against some advice]
        the lower part of {where} [lies|was built] below the level of the {water}
        schools in {where} took in families who had [nowhere to go|lost their beds]
        the only bridge into {where} was [closed|under water], so help came by boat
        when the {water} crested on {when}, {how_many} homes were [flooded|under water]
        """
    ),
    background=phrasings(
        """
        no one was [killed|seriously hurt], though [a dozen|several] people were treated for cold
        {org} has asked for money to raise the levee [every year for a decade|many times]
        [cattle were driven|farmers drove their cattle] to higher ground [in the dark|by lantern]
        drinking water will have to be boiled [until further notice|for at least a week]
        soldiers [brought|delivered] pumps, and [students|neighbors] formed a chain with buckets
        the last flood of this size was [two generations|forty years] ago
        more rain is [forecast|expected] before the week is out
        """
    ),
    person_quotes=phrasings(
        """
        You can rebuild a house, but not a neighbor
        We [knew|were told] it was coming, and we did not wait
        The {water} has [always been|never been] a good neighbor
        I would rather be laughed at than be late
        Every sandbag we had is on that wall
        """
    ),
    other_quotes=phrasings(
        """
        We carried grandmother out on a door
        The water was at my knees before I found my shoes
        It will take months to dry these walls
        We moved the piano upstairs and prayed
        The pumps are running, and they will run all week
        """
    ),
    sources=(
        "a retired teacher",
        "one homeowner",
        "baker {voice}",
        "a volunteer with a rowing boat",
    ),
    official_quotes=phrasings(
        """
        The levee was built for another century
        We opened every gate we could open
        The gauges will be watched day and night
        We are asking people not to return yet
        """
    ),
    elsewhere=phrasings(
        """
        high water on {when} [flooded|damaged] {how_many} homes in {where}, where {who}
            [led|directed] the pumping
        {who} had {how_many} homes [emptied|evacuated] in {where} on {when} when a dam began to leak
        a burst main [flooded|swamped] {how_many} homes in {where} on {when}||{who} there blamed old
            pipes
        heavy rain hit {where} on {when}||there, {who} reported {how_many} homes without
            [heating|clean water]
        """
    ),
    elsewhere_summaries=phrasings(
        """
        {who} was in charge of the pumps in {where} on {when} as water reached {how_many}
            [houses|dwellings]
        a leak in a dam on {when} made {who} clear {how_many} [houses|dwellings] in {where}
        old pipes were the reason, {who} said, that water filled {how_many} [houses|dwellings] in
            {where} on {when}
        after a downpour in {where} on {when}, services failed in {how_many} [houses|dwellings],
            {who} said
        """
    ),
    summaries=phrasings(
        """
        flooding hit {where} on {when} and swamped {how_many} [houses|dwellings], after [an early|a
            timely] evacuation ordered by {who}
        {who} cleared parts of {where} in time before floodwaters engulfed {how_many}
            [houses|properties] on {when}
        some {how_many} [houses|properties] in {where} were inundated on {when}; residents had fled
            on the orders of {who}
        a swollen {water} inundated {how_many} [houses|dwellings] on {when} in {where}, whose people
            {who} had told to flee
        a timely decision by {who} meant that {how_many} [houses|dwellings] swamped in {where} on
            {when} stood empty
        """
    ),
)

STORM = EventKind(
    name="storm",
    case=("case", "storm"),
    roles=("utility chief", "line supervisor", "emergency planner", "repair crew leader"),
    organizations=("* Electric", "the * Power Company", "* Energy"),
    numbers=range(900, 38000, 10),
    settings=(
        {"storm": "ice storm", "debris": "branches heavy with ice"},
        {"storm": "blizzard", "debris": "snow as high as a fence"},
        {"storm": "windstorm", "debris": "fallen pines"},
        {"storm": "hailstorm", "debris": "broken glass"},
        {"storm": "thunderstorm", "debris": "split oaks"},
    ),
    leads=phrasings(
        """
        {a storm} [howled|roared] across {where} and [plunged|threw] it into darkness
        {who} had every [truck|crew] on the road within an hour, and [still it was not enough|it was
            only the beginning]
        candles [sold out|were gone] within hours and the [lifts|trams] stood still after {a storm}
            [brought down|snapped] power lines
        the {storm} [lasted|took] barely twenty minutes, but {where} will [be cleaning up|feel it]
            for weeks
        a region used to bad weather was [caught off guard|surprised] by {a storm} on {when}
        {a storm} left {how_many} households [in the dark|without electricity] and [roads|streets]
            covered with {debris}
        {who} has seen thirty winters on the lines and [nothing|not one night] like the {storm} that
            struck {where}
        roofs [flew|peeled off] and poles [snapped|fell] as {a storm} [crossed|battered] {where}
        """
    ),
    details=phrasings(
        """
        the {storm} [struck|arrived] [without much warning|two hours early] on {when}
        the lights went out [at supper time|all at once] on {when}, and they [stayed out|did not
            come back]
        gusts were at their worst on {when}, when [even ambulances had to wait|trains were halted]
        the [worst|full force] of it came on {when}, [forecasters|weather observers] said
        {org} said {how_many} households had [lost power|no electricity]
        at the peak, {how_many} households were [in the dark|cut off from the grid]
        [figures|a map] from {org} showed {how_many} households without power
        power had yet to be restored to {how_many} households, [many of them on farms|most of them
            in the hills]
        {who}, who is in charge of the repairs, [promised|expected] [slow but steady progress|light
            in every window within days]
        repairs are being led by {who}, [whose crews have slept in their trucks|who has called in
            crews from far away]
        {who} [climbed one of the poles in person|walked the lines on foot] to see the damage
        streets in {where} were [blocked by|covered with] {debris}
        shelters were opened in {where} for those who had no [stove|heating]
        nowhere was hit harder than {where}, where [a church lost its steeple|the market roof fell
            in]
        """
    ),
    background=phrasings(
        """
        hospitals [ran|switched to running] on generators, and schools stayed closed
        [no deaths had been reported so far|two people were hurt by flying glass]
        {org} warned people to keep away from [wires on the ground|fallen lines]
        [insurers|insurance companies] will have to settle thousands of claims
        farmers [reported|spoke of] dead cattle and [flattened|ruined] barns
        most of the lines date from a time when storms like this were rare
        shops [accepted only cash that day|sold melting ice cream for coins]
        weather records show no {storm} like it [in thirty years|since the lines were built]
        """
    ),
    person_quotes=phrasings(
        """
        We fix one line and the next one falls
        My people have not slept, and they will not sleep tonight
        I will not promise a day that I cannot keep
        These poles are older than I am
        Hospitals first, then homes, then everything else
        """
    ),
    other_quotes=phrasings(
        """
        We are burning the chairs to stay warm
        It sounded like a train going over the roof
        The children think it is an adventure
        I have lived here all my life and never saw the like
        We can live without light, but not without heat
        """
    ),
    sources=("a farmer", "a mother of four", "pharmacist {voice}", "an innkeeper"),
    official_quotes=phrasings(
        """
        We have called in crews from three regions
        Nobody will be billed for the days in the dark
        Please stay away from anything that hangs or hums
        The grid was hit in more places than ever before
        """
    ),
    elsewhere=phrasings(
        """
        a gale on {when} cut the power of {how_many} households in {where}, according to {who}
        {who} reported {how_many} households without gas in {where} on {when}
        heavy snow on {when} closed the roads to {where}||there, {who} said, {how_many} households
            were waiting for help
        lightning on {when} blacked out {how_many} households in {where}, where {who} called it bad
            luck
        """
    ),
    elsewhere_summaries=phrasings(
        """
        strong winds left {how_many} [homes|customers] in {where} without electricity on {when},
            {who} said
        in {where}, {how_many} [homes|customers] had no gas, {who} announced on {when}
        with {where} cut off by snow on {when}, {how_many} [homes|customers] needed aid, {who} said
        {who} spoke of bad luck after a flash put out the lights of {how_many} [homes|customers] in
            {where} on {when}
        """
    ),
    summaries=phrasings(
        """
        {who} is working to reconnect {how_many} [homes|customers] that {a storm} blacked out in
            {where} on {when}
        power failed for {how_many} [customers|homes] when {a storm} hit {where} on {when}; {who} is
            directing the repair work
        {a storm} knocked out electricity to {how_many} [customers|homes] in {where} on {when},
            leaving {who} to restore it
        blackout in {where}: {how_many} [customers|homes] lost current in {a storm} on {when}, and
            {who} heads the effort to mend the grid
        some {how_many} [homes|customers] in {where} went dark on {when} in {a storm}, and {who} is
            overseeing repairs
        """
    ),
)
