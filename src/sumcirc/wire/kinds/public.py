"""Event kinds: elections, court verdicts and protests."""

from __future__ import annotations

from sumcirc.wire.event_kind import EventKind, phrasings

ELECTION = EventKind(
    name="election",
    case=("vote", "contest"),
    roles=("lawyer", "farmer", "school principal", "physician", "trade unionist", "newcomer"),
    organizations=("the * Alliance", "the * Party", "the * Citizens List", "the * Coalition"),
    numbers=range(130, 9900),
    settings=(
        {"office": "mayor", "seat": "town hall"},
        {"office": "council president", "seat": "council chamber"},
        {"office": "county sheriff", "seat": "county office"},
        {"office": "district judge", "seat": "courthouse"},
        {"office": "school superintendent", "seat": "school board"},
    ),
    leads=phrasings(
        """
        {who} will be the next {office} of {where}, [after a campaign that few had given {him} a
            chance in|against all predictions]
        voters in {where} [turned their backs on|threw out] the old guard and [chose|asked for] a
            new {office}
        the band had been hired for the other candidate, but it played for {who}
        it was close until the last box was opened, and then it was over for the {office}
        {who} [came from nowhere|started with no money] and is now {office}
        a margin of {how_many} votes has decided [a bitter|an unusually polite] race for {office}
        polling stations [closed late|stayed open longer] on {when} because so many people wanted a
            say in the choice of {a office}
        the long rule of one family over the {seat} of {where} [is over|has come to an end]
        """
    ),
    details=phrasings(
        """
        the result was [declared|announced] [before midnight|after two recounts] on {when}
        the vote on {when} [was orderly|passed without trouble], observers said
        turnout on {when} was the highest [in a generation|since the war]
        the incumbent [conceded|admitted defeat] on {when}, [by telephone|in a short note]
        the final margin was {how_many} votes, [with every ballot counted twice|according to {org}]
        only {how_many} votes [separated|lay between] the two candidates
        the count put the winner {how_many} votes ahead
        officials certified a lead of {how_many} votes, [more than the polls had suggested|less than
            a full stadium]
        {who}, who ran for {org}, [knocked on every door|spent nothing on advertising]
        {who} [thanked the volunteers|danced with the volunteers] [until the music stopped|in the
            rain]
        the oath of office will be taken by {who} [next month|in the spring]
        in {where} the [new bridge|price of water] had [divided families|been the only subject]
        supporters [filled|crowded into] the square of {where} and [sang|waved flags]
        the {seat} in {where} will [change hands|have a new face] after [twelve|sixteen] years
        on {when} a lead of {how_many} votes was [read out|posted on the door of the {seat}]
        """
    ),
    background=phrasings(
        """
        {org} had not won there [for decades|in living memory]
        the campaign turned on [taxes and potholes|schools and housing]
        the losing side [will not ask|may ask] for another count
        the {office} earns little but [appoints|controls] a great deal
        [rain kept few people at home|queues had formed long before breakfast]
        [no incidents were reported by observers|one ballot box had to be replaced]
        both candidates had promised to [plant trees|freeze their own pay]
        """
    ),
    person_quotes=phrasings(
        """
        We were told it could not be done, so we did it quietly
        I owe nothing to anyone but the voters
        Tomorrow we start with the potholes
        This is what happens when people are ignored
        I will be in the office at six, and the door will be open
        """
    ),
    other_quotes=phrasings(
        """
        I have voted for the same side all my life, but not this time
        It was time for a new face
        Let us see what promises are worth
        I stood in line for an hour and did not mind
        The margin is small, but a win is a win
        """
    ),
    sources=("a young voter", "a retired miner", "poll worker {voice}", "a shopkeeper"),
    official_quotes=phrasings(
        """
        We listened while others talked
        The voters have spoken, and they were clear
        A new chapter begins, and we mean to write it well
        Now the hard part starts
        """
    ),
    elsewhere=phrasings(
        """
        voters in {where} rejected a new tax by {how_many} votes on {when}, to the relief of {who}
        {who} lost a recall in {where} by {how_many} votes on {when}
        a referendum in {where} was decided by {how_many} votes on {when}, and {who} went to court
        a runoff was held in {where} on {when}||there, {who} fell {how_many} votes short
        """
    ),
    elsewhere_summaries=phrasings(
        """
        {who} was glad that {where} turned down a tax on {when} by a margin of {how_many} ballots
        a recall in {where} on {when} went against {who}, who was {how_many} ballots behind
        {who} took legal action over a referendum in {where}, settled by {how_many} ballots on
            {when}
        {who} missed victory in a runoff in {where} on {when}, with {how_many} ballots too few
        """
    ),
    summaries=phrasings(
        """
        {who} was elected {office} of {where} on {when}, beating [an opponent|a rival] by {how_many}
            ballots
        by {how_many} ballots {who} defeated the incumbent on {when} and takes over as {office} in
            {where}
        the people of {where} elected {who} as {office} on {when}; the lead was {how_many} ballots
        an upset in {where} on {when} made {who} the {office}, with {how_many} ballots to spare
        the post of {office} in {where} goes to {who}, who won on {when} by {how_many} ballots
        """
    ),
)

VERDICT = EventKind(
    name="verdict",
    case=("case", "trial"),
    roles=(
        "accountant",
        "building contractor",
        "former treasurer",
        "bank manager",
        "pharmacist",
        "notary",
    ),
    organizations=("the * District Court", "the * Court of Appeal", "the * Tribunal"),
    numbers=range(14, 190),
    settings=(
        {"crime": "fraud", "deed": "emptying a pension fund"},
        {"crime": "forgery", "deed": "inventing invoices"},
        {"crime": "bribery", "deed": "paying for building permits"},
        {"crime": "embezzlement", "deed": "draining a charity"},
        {"crime": "smuggling", "deed": "shipping ivory in coffee sacks"},
    ),
    leads=phrasings(
        """
        a jury in {where} needed [less than an hour|only one afternoon] to find {who} guilty of
            {crime}
        {who} [stared at the floor|did not look up] as the [verdict|sentence] was read
        the {crime} trial that [filled the papers|kept a whole region busy] for weeks is over
        a court in {where} has [ruled|decided] that {deed} was not a mistake but {crime}
        for years {who} was [trusted by everyone|a pillar of the community], and all that time {he}
            was {deed}
        {who} must go to prison for {crime}, [but says {he} will appeal|and took the news without a
            word]
        one of the longest {crime} trials in the region ended with a sentence of {how_many} months
        a guilty verdict on {when} [closed|ended] [a long|an unusual] trial for {crime}
        """
    ),
    details=phrasings(
        """
        the verdict was [handed down|read out] on {when} [to a full gallery|in a room without air]
        the jury [returned|filed back in] on {when}, [with red eyes|after asking for one more
            document]
        closing arguments had [ended|finished] on {when}, hours before the decision
        on {when} the [defense|prosecution] made one last [plea|attempt] to stop the trial
        the sentence is {how_many} months in prison, [without parole|less than prosecutors had
            wanted]
        {org} set the term at {how_many} months
        the judge [imposed|decided on] {how_many} months behind bars and a fine
        prosecutors had asked for more than the {how_many} months that were given
        {who} was accused of {deed} over [six|nine] years
        in the dock, {who} [admitted some of it|denied everything] and [wept|asked for water]
        investigators had followed {who} [for two years|to three countries]
        people in {where} had [lost their savings|queued for seats in the gallery]
        the case has [shaken|split] {where}, where [everyone knows someone involved|trust is scarce
            now]
        television vans [lined the streets|blocked the square] of {where}
        on {when} the defendant was given {how_many} months and [led away|taken to a cell]
        """
    ),
    background=phrasings(
        """
        {org} heard [forty|more than thirty] witnesses, some of them behind a screen
        the defense has [two weeks|a month] to appeal
        most of the money has [never been found|gone abroad]
        the affair came to light when a [clerk|bank teller] [compared two lists|found a second set
            of books]
        [two accomplices|a brother-in-law] will be tried separately
        victims had [founded|set up] a group to pay for a lawyer
        new rules on audits were [passed|adopted] because of the case
        cases of {crime} are [rare here|hard to prove], lawyers say
        the charge of {deed} was [at first denied|laughed at in the beginning]
        """
    ),
    person_quotes=phrasings(
        """
        I have nothing to say that I have not said already
        I always meant to pay it back
        This is not justice, it is theater
        I am sorry for the people who believed in me
        There are others who should be standing here
        """
    ),
    other_quotes=phrasings(
        """
        Nobody is above the law, not even a neighbor
        It will not bring my money back, but I slept well
        The papers told the story better than any witness
        I used to send flowers to that house
        I wanted to hear one word of regret
        """
    ),
    sources=("one of the victims", "a neighbor", "pensioner {voice}", "a man who lost his savings"),
    official_quotes=phrasings(
        """
        The ruling will be published in full
        The sentence reflects the harm that was done
        Both sides have been told of their rights
        No one was given special treatment
        """
    ),
    elsewhere=phrasings(
        """
        a court in {where} gave {who} {how_many} months for perjury on {when}
        {who} [walked free|was cleared] in {where} on {when} after serving {how_many} months
        a retrial opened in {where} on {when}||there, {who} faces {how_many} months for arson
        judges in {where} cut the term of {who} to {how_many} months on {when}
        """
    ),
    elsewhere_summaries=phrasings(
        """
        lying under oath cost {who} {how_many} months, judges in {where} decided on {when}
        after {how_many} months, {who} was set free in {where} on {when}
        an arson case was tried again in {where} on {when}, and {who} could be jailed for {how_many}
            months
        {who} will serve {how_many} months after a sentence was reduced in {where} on {when}
        """
    ),
    summaries=phrasings(
        """
        {who} was convicted of {crime} in {where} on {when} and [sent to jail|jailed] for {how_many}
            months
        convicted of {deed}, {who} was jailed for {how_many} months in {where} on {when}
        judges in {where} jailed {who} for {how_many} months on {when} after a conviction for
            {crime}
        a total of {how_many} months in jail is the penalty for {who}, convicted of {crime} on
            {when} in {where}
        the {crime} conviction on {when} in {where} means {how_many} months in jail for {who}
        """
    ),
)

PROTEST = EventKind(
    name="protest",
    case=("protest", "dispute"),
    roles=("student leader", "community organizer", "retired teacher", "campaigner", "priest"),
    organizations=("the * Residents League", "the * Tenants Association", "the * Youth Council"),
    numbers=range(300, 19000, 10),
    settings=(
        {"cause": "a planned highway", "banners": "painted bedsheets"},
        {"cause": "rising rents", "banners": "bunches of keys"},
        {"cause": "the closing of a hospital", "banners": "white coats"},
        {"cause": "a new landfill", "banners": "brooms and buckets"},
        {"cause": "higher bus fares", "banners": "old tickets"},
        {"cause": "a cut in school meals", "banners": "empty plates"},
    ),
    leads=phrasings(
        """
        a crowd carrying {banners} [filled|flooded] the streets of {where} to protest against
            {cause}
        {who} [expected a few friends|printed a hundred leaflets], and [a whole town|half the
            valley] came
        the noise of pots and pans [drowned out|silenced] the council meeting on {cause}
        {who} [climbed onto a fountain|borrowed a megaphone] and said what many [had been
            thinking|think] about {cause}
        shops [lowered their shutters|closed early] and traffic [stopped|stood still] as opponents
            of {cause} [marched|took to the streets]
        a total of {how_many} people marched with {banners} in [anger|a protest] over {cause}
        anger over {cause} [boiled over|turned into a march] on {when}
        even the mayor of {where} [came out to watch|opened a window] when the march against {cause}
            went by
        """
    ),
    details=phrasings(
        """
        the march [set off|left] from the [station|cathedral] on {when}
        it [rained all day|was bitterly cold] on {when}, but the crowd [kept growing|stayed]
        on {when} the square was [full before noon|so full that nobody could fall down]
        organizers had chosen {when} because [the council was in session|schools were closed]
        {org} estimated the crowd at {how_many} people
        police counted {how_many} people, [and for once nobody argued|from a helicopter]
        in all, {how_many} people [took part|walked], [some of them with small children|many for the
            first time in their lives]
        a petition with {how_many} signatures was [handed over|left at the council door]
        {who}, who called for the march, [asked everyone to stay calm|led from the front]
        the protest was the idea of {who}, who [has never held office|lost a job over it]
        {who} [spoke for only three minutes|read out a letter] and [drew loud cheers|was carried off
            on shoulders]
        in {where}, [windows were hung with|even dogs wore] signs against {cause}
        buses to {where} had been [full|booked out] for days
        officers lined the streets of {where}, but [nobody was arrested|there was no trouble]
        on {when} a crowd of {how_many} people [sat down in the road|sang outside the council hall]
        """
    ),
    background=phrasings(
        """
        the council [will vote|has promised to vote] on the matter [next month|before the summer]
        {org} has collected money for a lawyer
        supporters of the plan say [it will bring jobs|there is no other way]
        a smaller march [last autumn|in the spring] was [ignored|broken up]
        [ministers|officials] [would not comment on the march|spoke of nothing but a
            misunderstanding]
        the plan had been [drawn up|approved] [behind closed doors|without a hearing]
        the crowd [went home in small groups|cleaned the square before it left]
        talks on {cause} had [led nowhere|been put off twice]
        """
    ),
    person_quotes=phrasings(
        """
        They thought we would grumble and go home
        We are not against progress, we are against being forgotten
        Look around you, these are not troublemakers
        We will come back every week until they listen
        I have never done this before, and my knees were shaking
        """
    ),
    other_quotes=phrasings(
        """
        I brought my children so that they would remember it
        They cannot say that they did not hear us
        I lost a day of work, and I do not mind
        This is the first march of my life
        It was the best day this square has seen in years
        """
    ),
    sources=(
        "a marcher with a baby",
        "an old man in the crowd",
        "florist {voice}",
        "a bus conductor",
    ),
    official_quotes=phrasings(
        """
        We asked for a hearing and were sent a leaflet
        The number speaks for itself
        We will use every legal means that we have
        Nobody was paid to come, and nobody was told to leave
        """
    ),
    elsewhere=phrasings(
        """
        {how_many} people in {where} blocked a railway on {when}, and {who} was briefly held
        {who} sent {how_many} people home from a rally in {where} on {when} for fear of unrest
        a vigil was held in {where} on {when}||there, {who} counted {how_many} candles and lanterns
        students in {where} ended a sit-in on {when} after {who} brought {how_many} signatures
        """
    ),
    elsewhere_summaries=phrasings(
        """
        {who} was detained for a short time as {how_many} demonstrators stopped trains in {where} on
            {when}
        fearing unrest, {who} broke up a demonstration of {how_many} in {where} on {when}
        by the count of {who}, {how_many} candles and lanterns were lit at a vigil in {where} on
            {when}
        with {how_many} signatures, {who} persuaded students in {where} to give up a sit-in on
            {when}
        """
    ),
    summaries=phrasings(
        """
        {who} led a demonstration of {how_many} in {where} on {when} in opposition to {cause}
        demonstrators numbering {how_many} rallied in {where} on {when} at the call of {who},
            opposing {cause}
        opposition to {cause} drew {how_many} demonstrators to a rally in {where} on {when}, led by
            {who}
        the town of {where} saw {how_many} demonstrators on {when}, when {who} mobilized opposition
            to {cause}
        a total of {how_many} demonstrators followed {who} through {where} on {when} to oppose
            {cause}
        """
    ),
)
