"""Event kinds: mergers, new factories and strikes."""

from __future__ import annotations

from sumcirc.wire.event_kind import EventKind, phrasings

MERGER = EventKind(
    name="merger",
    case=("case",),
    roles=("chief executive", "board member", "company founder", "managing director"),
    organizations=("* Holdings", "* Group", "* Partners", "* Capital"),
    numbers=range(150, 4800, 10),
    settings=(
        {"trade": "grocery chain"},
        {"trade": "shipping line"},
        {"trade": "insurance company"},
        {"trade": "brewery"},
        {"trade": "airline"},
        {"trade": "savings bank"},
        {"trade": "drug maker"},
    ),
    leads=phrasings(
        """
        {org} has agreed to [buy|take over] its rival {rival} and will run the combined {trade} from
            {where}
        after [months of talks|three failed attempts], {who} has [the signature {he} wanted|got
            {his} way]
        the {trade} {rival}, once thought too proud to sell, has been sold to {org}
        {who} [shook hands with an old rival|put {his} name to the contract] and created the biggest
            {trade} in the region
        two names that [generations of customers have known|have fought each other for decades] will
            soon be one
        shareholders of the {trade} {rival} [accepted|approved] an offer from {org} on {when}
        a total of {how_many} jobs will [go|disappear] as {org} [swallows|absorbs] {rival}, {a
            trade}
        employees in {where} learned from a short letter that {org} and {rival} are to become one
            {trade}
        """
    ),
    details=phrasings(
        """
        the contract was signed on {when} [after an all-night meeting|in front of cameras]
        the boards [met|gave their consent] on {when}, [in separate rooms|with one vote against]
        trading in the shares was [halted|suspended] on {when}
        word of the deal [leaked out|reached employees] on {when}
        the plan means the loss of {how_many} jobs, [most of them in offices|mainly in transport]
        a note to employees says that {how_many} jobs will be [cut|lost] within two years
        analysts expect {how_many} jobs to go, [a figure that {org} did not dispute|though not at
            once]
        unions say {how_many} jobs are [at stake|on the list]
        {who}, who will lead the new company, [promised to keep both names|spoke of a marriage of
            equals]
        the driving force was {who}, [who had first made an offer years ago|a patient negotiator]
        {who} [declined to say what {he} had paid|said the price was fair]
        head office will be in {where}, [where a tower is already being built|as a concession to the
            smaller partner]
        the mayor of {where} [welcomed|regretted] the decision
        the warehouse in {where} will be [kept open|the largest of the new company]
        by {when} it was clear that {how_many} jobs would be [cut|given up]
        """
    ),
    background=phrasings(
        """
        regulators have [six months|until spring] to [object|examine the deal]
        shares of {org} [rose|fell] sharply, while the market as a whole hardly moved
        customers will [see no change|keep their contracts] for now
        margins in the business have been [shrinking|thin] for years
        [neither side|none of the companies] would name the price
        a first attempt at a merger collapsed [a decade ago|over the choice of a chairman]
        {org} has bought [three|half a dozen] smaller firms in recent years
        no other {trade} in the region will be nearly as large
        {rival} had been looking for a partner [since the winter|for years]
        """
    ),
    person_quotes=phrasings(
        """
        Together we can do what neither of us could do alone
        This was not about size, it was about survival
        I do not enjoy cutting jobs, and I will not pretend that I do
        We have been neighbors and enemies long enough
        In five years nobody will remember that there were two of us
        """
    ),
    other_quotes=phrasings(
        """
        I have worked here since school, and they sent a letter
        It makes sense on paper
        When two elephants marry, the grass gets trampled
        We want guarantees in writing
        We read it in the paper before anyone told us
        """
    ),
    sources=(
        "a union official",
        "an employee at the gate",
        "clerk {voice}",
        "a driver with thirty years of service",
    ),
    official_quotes=phrasings(
        """
        Customers will hardly notice, except that things will work better
        We are paying a fair price for a fine company
        Nobody will be asked to leave before next year
        The two firms fit together like hand and glove
        """
    ),
    elsewhere=phrasings(
        """
        {org} [closed|sold] a plant in {where} on {when}, and {who} confirmed that {how_many} jobs
            were lost
        {who} called off the sale of {a trade} in {where} on {when}, which saved {how_many} jobs
        {a trade} in {where} went bankrupt on {when}||there, {who} said, {how_many} jobs were in
            danger
        {who} moved {how_many} jobs from {where} to the coast on {when}
        """
    ),
    elsewhere_summaries=phrasings(
        """
        at a plant of {org} in {where}, {how_many} people lost their work on {when}, {who} confirmed
        some {how_many} [positions|posts] are safe in {where} because {who} decided on {when} not to
            sell {a trade}
        the bankruptcy of {a trade} in {where} on {when} puts {how_many} [positions|posts] at risk,
            according to {who}
        {who} cost {where} {how_many} [positions|posts], which went to the coast on {when}
        """
    ),
    summaries=phrasings(
        """
        {who} sealed the takeover of {rival} on {when}; the new {trade}, based in {where}, will shed
            {how_many} positions
        the takeover of {a trade} in {where}, announced on {when} by {who}, will cost
            {how_many} people their work
        a total of {how_many} positions will be eliminated in the {trade} takeover centered on
            {where} that {who} completed on {when}
        {org} is acquiring {rival}, {who} confirmed on {when}, with {how_many} posts cut and a seat
            in {where}
        the takeover led by {who} was finished on {when}: {a trade} in {where}, with {how_many}
            fewer posts
        """
    ),
)

FACTORY = EventKind(
    name="factory",
    case=("case",),
    roles=("plant manager", "company founder", "chief executive", "chief engineer"),
    organizations=("* Industries", "* Motors", "* Manufacturing", "* Works"),
    numbers=range(110, 2600, 5),
    settings=(
        {"goods": "batteries"},
        {"goods": "bicycles"},
        {"goods": "solar panels"},
        {"goods": "tractors"},
        {"goods": "medicines"},
        {"goods": "furniture"},
        {"goods": "glass bottles"},
    ),
    leads=phrasings(
        """
        where [sheep grazed|there was a rubbish dump] two years ago, {goods} now roll off a
            production line
        {who} [cut a ribbon|pressed a green button], and a factory for {goods} came to life in
            {where}
        the town of {where} has [lost two mills and a railway station|waited twenty years for good
            news], but it now has a factory for {goods}
        {org} will make {goods} in {where}, [after looking at sites in four countries|to the
            surprise of rivals]
        with a brass band and a [short|long] speech, {who} opened a factory for {goods}
        a factory that [few believed in|was almost cancelled] began making {goods} on {when}
        a total of {how_many} people will soon [earn their living|work] in a new factory for {goods}
        the first {goods} left a brand-new hall in {where}, still warm from the line
        """
    ),
    details=phrasings(
        """
        the gates [opened|were opened] on {when}, [two months early|after a year of delays]
        production [started|began] on {when} with a single line
        guests from [five|several] countries [came to|attended] the opening on {when}
        on {when} the machines ran [for the first time|at full speed for an hour]
        {org} has hired {how_many} workers, [half of them from the region|many of them young]
        the plant will employ {how_many} workers [once a second shift is added|by the end of next
            year]
        in all there is work for {how_many} people, [from welders to chemists|and thousands have
            applied]
        the payroll will have {how_many} names on it, [more than any other in the area|a third of
            them women]
        {who}, who [grew up nearby|sketched the first plans on a napkin], had [insisted on|fought
            for] the site
        the idea came from {who}, who [mortgaged a house to pay for it|would not hear of a site
            abroad]
        {who} [walked along the line and shook every hand|drove the first truck out in person]
        the council of {where} [gave the land for a symbolic price|paid for a new road]
        rents in {where} have [already gone up|doubled], and two cafes have opened
        young people who had left {where} are [coming home|asking for jobs]
        on {when} a crowd saw {how_many} workers [file|walk] through the gates
        """
    ),
    background=phrasings(
        """
        {org} has put most of its savings into the hall and its machines
        the roof is covered with [grass|solar cells], and the heat warms [a school|a swimming pool]
        [demand for {goods} has grown|the market for {goods} has recovered] since the spring
        critics say the [subsidies were too generous|wages are too low]
        a training center [next door|across the road] will teach apprentices
        parts will come by rail, on a line that had been [closed for years|left to rust]
        a second hall is planned [if sales go well|for the year after next]
        """
    ),
    person_quotes=phrasings(
        """
        People told me to build anywhere but here
        This place knows how to work, it only needed a reason
        Every machine in this hall has a name
        We will be judged by what we make, not by what we say
        My father would have liked the noise
        """
    ),
    other_quotes=phrasings(
        """
        I drove two hours to my last job, and now I walk
        My son is moving back, and that is all I wanted
        The first week will be hard on the feet
        Let us see if we are still here in ten years
        Even the bakery has a queue again
        """
    ),
    sources=(
        "a newly hired welder",
        "machinist {voice}",
        "a woman on the first shift",
        "a mechanic",
    ),
    official_quotes=phrasings(
        """
        We are here to stay
        Orders for the first year are already on the books
        We could have gone elsewhere, and we are glad we did not
        The second hall is already on paper
        """
    ),
    elsewhere=phrasings(
        """
        a mill in {where} shut its gates on {when}, and {who} sent {how_many} workers home
        {who} hired {how_many} workers for a new quarry near {where} on {when}
        a shipyard in {where} won an order on {when}||there, {who} is looking for {how_many} workers
        fire damaged a sawmill in {where} on {when}, and {who} found other work for its {how_many}
            employees
        """
    ),
    elsewhere_summaries=phrasings(
        """
        with a mill in {where} closed on {when}, {who} told {how_many} people to go home
        on {when}, {who} gave {how_many} people work at a new quarry near {where}
        {who} needs {how_many} people for a shipyard in {where} that received an order on {when}
        after a sawmill in {where} burned on {when}, {who} gave its {how_many} people other jobs
        """
    ),
    summaries=phrasings(
        """
        {who} inaugurated a plant for {goods} in {where} on {when} that creates {how_many} jobs
        a new plant producing {goods} brings {how_many} jobs to {where}, where {who} inaugurated it
            on {when}
        the town of {where} gained {how_many} jobs on {when} as {who} launched a plant that produces
            {goods}
        a total of {how_many} jobs are being created in {where}, where {who} launched the production
            of {goods} on {when}
        jobs for {where}: a plant producing {goods} was launched on {when} by {who}, with a staff of
            {how_many}
        """
    ),
)

STRIKE = EventKind(
    name="strike",
    case=("dispute", "strike"),
    roles=("union leader", "shop steward", "strike organizer", "union secretary"),
    organizations=("the * Workers Union", "the * Labor Federation", "the * Employees League"),
    numbers=range(140, 6900, 10),
    settings=(
        {"workers": "nurses", "sites": "hospitals", "issue": "night shifts"},
        {"workers": "bus drivers", "sites": "depots", "issue": "unpaid overtime"},
        {"workers": "dock workers", "sites": "piers", "issue": "new cranes"},
        {"workers": "teachers", "sites": "schools", "issue": "crowded classes"},
        {"workers": "miners", "sites": "shafts", "issue": "safety below ground"},
        {"workers": "bakers", "sites": "bakeries", "issue": "early shifts"},
    ),
    leads=phrasings(
        """
        the {sites} of {where} stood [still|silent] as {workers} walked out over {issue}
        {who} [blew a whistle|raised a hand], and the {workers} [put down their work|walked through
            the gates]
        talks that [began with handshakes|had dragged on since winter] ended with {workers} on the
            pavement
        no one in {where} expected the {workers} to go through with it, [but they did|until they
            did]
        with drums and [soup kettles|hot tea], {workers} [settled in for|began] what could be a long
            strike over {issue}
        {who} [tore up|rejected] the last offer and called the {workers} out on strike
        a total of {how_many} {workers} [left their posts|laid down their tools] in a dispute over
            {issue}
        a strike by {workers} began on {when}, and [nobody can say when it will end|both sides blame
            each other]
        """
    ),
    details=phrasings(
        """
        the walkout began [at dawn|with the early shift] on {when}
        the last round of talks [broke down|failed] on {when}, [after eleven hours|within minutes]
        pickets [took up their places|lit their fires] on {when}
        on {when} the gates stayed shut [for the first time in a decade|and the phones went
            unanswered]
        {org} said {how_many} of its members had [joined in|stopped work]
        in all {how_many} {workers} are [on strike|taking part], [more than employers had
            expected|fewer than the union had hoped]
        employers counted {how_many} {workers} who did not [report for work|turn up]
        a show of hands found {how_many} {workers} in favor and [hardly anyone|only a few] against
        {who}, who speaks for the {workers}, [demanded|asked for] [a written promise|new talks] on
            {issue}
        {who} [went from picket to picket|stood on a crate] to explain why the offer was not enough
        the strike is the work of {who}, who [once did the same job|has led two others]
        shopkeepers in {where} [brought coffee to the pickets|put signs of support in their windows]
        volunteers tried to keep [some|a few] of the {sites} in {where} open
        the mayor of {where} offered to [mediate|bring both sides together]
        on {when} a march of {how_many} {workers} [passed|circled] the {sites}
        """
    ),
    background=phrasings(
        """
        the employers' last offer was a small raise [and a bonus|spread over three years]
        {org} says it can pay its members from a strike fund for [six weeks|two months]
        a court may be asked to [order a pause|rule on the strike]
        emergency services [were not affected by it|went on as usual]
        wages have [not kept up with prices|hardly moved] in [five|six] years
        the last strike of this kind [lasted nineteen days|ended in a compromise]
        no new talks have been [set|scheduled]
        the dispute over {issue} has [smoldered|dragged on] for months
        the {workers} last went on strike [eight|ten] years ago
        """
    ),
    person_quotes=phrasings(
        """
        We have been patient for years, and patience does not pay the rent
        They offered us words, and we asked for a contract
        Nobody here wants to strike, but everybody here will
        We will be back at the table when there is something on it
        Without us nothing moves, and today they can see it
        """
    ),
    other_quotes=phrasings(
        """
        I support them, but my patience has limits
        My mother did this job, and it was easier then
        One more week of this and nobody will support them
        They should lock both sides in a room
        Everyone here has a cousin on the picket line
        """
    ),
    sources=("a commuter", "cafe owner {voice}", "a pensioner at the gates"),
    official_quotes=phrasings(
        """
        Our members have shown more patience than anyone could ask
        The door is open, and so is the fund
        We will not go back for the same offer
        This could be settled in an afternoon
        """
    ),
    elsewhere=phrasings(
        """
        {how_many} {workers} in {where} ended a strike on {when} after {who} accepted a raise
        {who} led {how_many} {workers} in {where} back to work on {when}
        {workers} in {where} voted against a strike on {when}||there, {who} could not win over
            {how_many} members
        a dispute in {where} was settled on {when}, when {who} won a bonus for {how_many} {workers}
        """
    ),
    elsewhere_summaries=phrasings(
        """
        {who} agreed to higher pay on {when}, so {how_many} {workers} in {where} stopped their
            strike
        on {when}, {how_many} {workers} in {where} returned to their jobs behind {who}
        {who} failed to persuade {how_many} members in {where} on {when}, and {workers} rejected a
            strike
        a bonus for {how_many} {workers}, negotiated by {who}, ended a dispute in {where} on {when}
        """
    ),
    summaries=phrasings(
        """
        {who} led {how_many} {workers} in {where} into [industrial action|a stoppage] over {issue}
            on {when}
        a stoppage over {issue} by {how_many} {workers} hit {where} on {when}; {who} heads their
            campaign
        a total of {how_many} {workers} downed tools on {when} in {where}, as {who} pressed for
            action on {issue}
        angered over {issue}, {how_many} {workers} headed by {who} downed tools in {where} on {when}
        industrial action in {where}: {who} called out {how_many} {workers} on {when} in protest at
            {issue}
        """
    ),
)
